"""Every rule between the settings of a mask that can be told from their values alone.

Nothing heavy is imported here. What needs the target, the model or the data is checked where those are read.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import fields
from typing import Any

from ..common.errors import BudgetError, ConfigError, did_you_mean, mapping, one_of
from ..common.plugins import part
from ..masks.budget import budget_over_time
from ..policies.catalogue import OPTIONAL, PARAMETERS, RECORDING, Parameter, checked_params, entry, takers
from .settings import LIMITS, RETAINED_SOURCES, STEP_LIMITS, MaskSettings

_DEFAULTS = {field.name: field.default for field in fields(MaskSettings)}
_LEAST = {
    **dict.fromkeys(("probe_every", "probe_examples", "probe_batch_size", "horizon", "mlp_block"), 1),
    **dict.fromkeys(("remask_every", "restart_every"), 0),
}
_RETAINED = {
    "examples": Parameter(int, 256, "rows that the base model writes"),
    "tokens": Parameter(int, 64, "new tokens in each row, at most"),
}


def check_settings(settings: MaskSettings) -> None:
    """Check all of them, and turn JSON text into mappings and numbers.

    Raises:
        ConfigError: a value outside its range, settings that contradict each other, or one that the chosen policy or
            granularity does not take; the message names it, what was expected, and what would take it.
    """
    if not 0 < settings.budget <= 1:
        raise BudgetError(f"budget is {settings.budget}; expected a share of all model parameters in (0, 1]")
    entry(settings.policy, settings.granularity)
    settings.policy_params = mapping("policy_params", settings.policy_params, '{"redraw": true}')
    settings.target_params = mapping("target_params", settings.target_params, '{"preconditioner": "none"}')
    settings.forecaster_params = mapping("forecaster_params", settings.forecaster_params, '{"penalty": 1.0}')
    settings.limits = _checked_limits(settings)
    settings.candidates = part("masks.candidates.checked")(settings.candidates) if settings.candidates else None
    settings.head_share = _checked_head_share(settings.head_share)
    _check_taken(settings)
    params = checked_params(settings.policy, settings.granularity, settings.policy_params)
    retained_size(settings)
    for name, least in _LEAST.items():
        if (value := getattr(settings, name)) is not None and value < least:
            raise ConfigError(f"{name} is {value}; expected at least {least}")
    if not 0 <= settings.replay_share < 1:
        raise ConfigError(f"replay_share is {settings.replay_share}; expected a share in [0, 1)")
    _check_watch(settings, params)
    _check_budget_schedule(settings, params)


def check_trainer(settings: Mapping[str, Any]) -> None:
    """Check settings of TRL's trainer, by name, that do not go with masks; what is left out has TRL's default.

    Raises:
        ConfigError: names the setting and says what to set instead.
    """
    for name in ("gradient_checkpointing_kwargs", "activation_checkpointing_kwargs"):
        given = settings.get(name)
        if isinstance(given, dict) and given.get("use_reentrant"):
            raise ConfigError(
                "gradient checkpointing with use_reentrant=True fails with a shared bank; "
                "set gradient_checkpointing_kwargs to {'use_reentrant': False}"
            )
    for name in ("learning_rate", "weight_decay", "max_grad_norm", "warmup_steps"):
        value = settings.get(name)
        if isinstance(value, (int, float)) and not 0 <= value < math.inf:
            raise ConfigError(f"{name} is {value}; expected a finite number, at least 0")
    steps, epochs = settings.get("max_steps") or -1, settings.get("num_train_epochs")
    if steps < 1 and (steps != -1 or (epochs is not None and not 0 < epochs < math.inf)):
        raise ConfigError(
            f"max_steps is {steps} and num_train_epochs {epochs}; expected at least 1 step, or -1 and epochs above 0"
        )
    if settings.get("fp16"):
        raise ConfigError("fp16=True is not supported (loss scaling and masks are untested); use bf16 or fp32")
    if settings.get("fsdp"):
        raise ConfigError("FSDP is not supported; use DeepSpeed, or one process")


def taken(policy: str, granularity: str, record: bool = False) -> frozenset[str]:
    """Names of the settings that mean something to a policy, besides those of every run. Raises as `entry`."""
    names = entry(policy, granularity).takes
    if granularity == "components":
        names |= {"mlp_block"}
    if granularity != "weights":
        names |= {"record"} | (RECORDING if record else frozenset())
    return names


def only_taken(settings: dict[str, Any]) -> dict[str, Any]:
    """Of many settings by name, those that their own policy takes: for settings that several policies share.

    What no policy knows stays, to be refused.
    """
    policy = settings.get("policy", _DEFAULTS["policy"])
    granularity = settings.get("granularity", _DEFAULTS["granularity"])
    known, own = taken(policy, granularity, bool(settings.get("record"))), entry(policy, granularity).parameters
    given = mapping("policy_params", settings.get("policy_params"), '{"redraw": true}') or {}
    params = {name: value for name, value in given.items() if name in own or name not in PARAMETERS}
    known -= _idle(policy, settings.get("head_share"), params).keys()
    kept = {name: value for name, value in settings.items() if name not in OPTIONAL or name in known}
    return kept | {"policy_params": params or None}


def retained_size(settings: MaskSettings) -> dict[str, int]:
    """What the base model is to write for `retained_source: base`: {"examples": rows, "tokens": at most in each}.
    Raises ConfigError for neither a known source nor such a mapping.
    """
    source = settings.retained_source or "data"
    if isinstance(source, str) and not source.lstrip().startswith("{"):
        one_of("retained_source", source, RETAINED_SOURCES)
        source = {}
    return {name: size.default for name, size in _RETAINED.items()} | _checked("retained_source", source, _RETAINED)


def _checked(setting: str, value: Any, known: Mapping[str, Parameter]) -> dict[str, Any]:
    """A setting's mapping, each of its values checked. Raises ConfigError for an unknown key or a wrong value."""
    example = json.dumps({name: one.default for name, one in known.items() if one.default is not None})
    given = mapping(setting, value, example) or {}
    for name in given:
        if name not in known:
            raise ConfigError(f"{setting} has no {name!r}{did_you_mean(name, known)}; expected {', '.join(known)}")
    return {name: known[name].check(f"{setting}.{name}", one) for name, one in given.items()}


def _check_taken(settings: MaskSettings) -> None:
    policy, granularity = settings.policy, settings.granularity
    known = taken(policy, granularity, settings.record)
    changed = [name for name in _DEFAULTS if name in OPTIONAL and getattr(settings, name) != _DEFAULTS[name]]
    if beyond := [name for name in changed if name not in known]:
        raise ConfigError(
            f"{beyond[0]} is {getattr(settings, beyond[0])!r}, but policy {policy!r} over {granularity} does not take "
            f"it; remove it, or use {_who_takes(beyond[0], granularity)}"
        )
    for name, why in _idle(policy, settings.head_share, settings.policy_params or {}).items():
        if name in changed:
            raise ConfigError(f"{name} is {getattr(settings, name)}, but {why}")


def _idle(policy: str, head_share: Any, params: Any) -> dict[str, str]:
    """Settings that the policy takes, but does nothing with as it is set, and why."""
    found = {}
    if policy not in ("prior", "foresight") and head_share != "prior":
        found["history"] = (
            "only policies 'prior' and 'foresight' and head_share 'prior' learn from past runs; remove it"
        )
    if policy == "random" and not params.get("redraw"):
        found["remask_every"] = "policy 'random' keeps its mask; remove it, or set policy_params.redraw"
    return found


def _who_takes(name: str, granularity: str) -> str:
    if name == "mlp_block":
        return "granularity 'components'"
    found = takers(name, granularity)
    if name == "record" or (name in RECORDING and granularity == "weights" and not found):
        return "granularity 'components', 'vectors' or 'rows'"
    if not found:
        return f"granularity 'components': no policy over {granularity} takes it"
    or_record = ", or record" if name in RECORDING and granularity != "weights" else ""
    return f"policy {', '.join(map(repr, found))}{or_record}"


def _checked_limits(settings: MaskSettings) -> dict[str, float] | None:
    given = _checked("limits", settings.limits, LIMITS)
    if {"share", "seconds"} <= given.keys():
        raise ConfigError("limits.share and limits.seconds are both set, and both limit the time of a step; remove one")
    return given or None


def _checked_head_share(share: Any) -> float | str | None:
    if share is None or share == "prior":
        return share
    with suppress(TypeError, ValueError):
        if 0 <= (number := float(share)) <= 1:
            return number
    hint = did_you_mean(str(share), ("prior",))
    raise ConfigError(f"head_share is {share!r}{hint}; expected a number in [0, 1], or 'prior'")


def _check_watch(settings: MaskSettings, params: dict[str, Any]) -> None:
    watch, given = params.get("watch", "hold"), settings.limits or {}
    assert not isinstance(given, str)
    limits = {name: most for name, most in given.items() if name in STEP_LIMITS}
    if limits and watch != "hold":
        raise ConfigError(f"limits is {limits}, but watch {watch!r} trains components at any cost; use watch 'hold'")
    if "gib" in limits and "scout_share" in params:
        raise ConfigError(
            f"limits.gib is {limits['gib']}, but policy {settings.policy!r} trains all components in its scout; "
            "remove it"
        )


def _check_budget_schedule(settings: MaskSettings, params: dict[str, Any]) -> None:
    schedule = budget_over_time(settings.budget_schedule)
    if schedule is None:
        return
    if str(params.get("watch", "hold")).startswith("full-"):
        raise ConfigError(f"budget_schedule does not go with watch {params['watch']!r}; use 'hold' or 'rotate'")
    if settings.budget * schedule.peak > 1:
        raise BudgetError(
            f"budget {settings.budget} with this budget_schedule is {settings.budget * schedule.peak:.4g} at its peak; "
            f"expected at most 1: lower the budget to {1 / schedule.peak:.4g} or less, or flatten the schedule"
        )
