"""Every policy by name and granularity: where it lives, its own parameters, and which settings of a run it takes.

This is data: a policy is imported only when it is built (`make_policy`), and the command line can tell a wrong name or
setting before anything heavy is loaded.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..common.errors import ConfigError, did_you_mean, mapping, one_of
from ..common.plugins import part

if TYPE_CHECKING:
    from .policy import Policy

GRANULARITIES = ("components", "vectors", "rows", "weights")
"""What a mask can be made of: whole components, their single rows and columns, rows of every matrix, single weights."""


@dataclass(frozen=True)
class Parameter:
    """One parameter of a policy.

    Attributes:
        kind: what a value has to be; numbers are above zero. default: used where none is given.
        most: the largest number allowed.
        choices: the words allowed; all if empty.
        required: whether the policy cannot do without.
    """

    kind: type
    default: Any
    help: str
    most: float = math.inf
    choices: tuple[str, ...] = ()
    required: bool = False

    def check(self, name: str, value: Any) -> Any:
        """The value, a whole number as float where that is wanted. Raises ConfigError for one that does not fit."""
        if value is None:
            return None
        if self.kind is list and isinstance(value, str):
            value = [value]
        if self.kind is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        fits = isinstance(value, self.kind) and (self.kind is bool or not isinstance(value, bool))
        if not fits or (self.kind is list and not all(isinstance(one, str) for one in value)):
            raise ConfigError(f"{name} is {value!r}; expected {_KINDS[self.kind]}")
        if self.choices:
            one_of(name, value, self.choices)
        if self.kind is int and value < 1:
            raise ConfigError(f"{name} is {value}; expected at least 1")
        if self.kind is float and not (0 < value <= self.most and math.isfinite(value)):
            most = f", at most {self.most:g}" if math.isfinite(self.most) else ""
            raise ConfigError(f"{name} is {value}; expected a number above 0{most}")
        return value


_KINDS = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a text",
    list: "a text or a list of texts",
}


@dataclass(frozen=True)
class Entry:
    """A policy of one granularity.

    Attributes:
        home: module and class in this package, as "simple.Random".
        takes: the settings, of those that not every policy takes, that mean something to it.
        parameters: its own.
    """

    home: str
    takes: frozenset[str] = frozenset()
    parameters: Mapping[str, Parameter] = field(default_factory=dict)


SCORING = frozenset({"scorer", "probe_examples", "probe_batch_size", "calibrate"})
RANKING = frozenset({"head_share", "limits", "history"})
TARGET = frozenset({"target", "target_params"})
RECORDING = SCORING | TARGET | {"probe_every"}
"""What `record` needs, with any policy over components or vectors."""
OPTIONAL = frozenset(
    {"remask_every", "horizon", "forecaster", "forecaster_params", "gate", "budget", "budget_schedule", "candidates"}
    | {"mlp_block", "record"} | RECORDING | RANKING
)  # fmt: skip
"""Settings that some policies or granularities do not take."""
_REPLAYED = frozenset({"budget", "budget_schedule"})
_ALWAYS = _REPLAYED | {"candidates"}
_RANKED = _ALWAYS | RANKING

_SCOUT = {
    "scout_share": Parameter(
        float, 0.01, "Share of the training rows that all components are trained on in the scout, a short run before "
        "the run that is undone; at least one optimizer step.", most=1,
    ),
    "scout_learning_rate": Parameter(float, None, "Learning rate of the scout; by default a tenth of learning_rate."),
}  # fmt: skip
_WATCH = {
    "watch": Parameter(
        str, "hold", "What is trained before the first forecast. hold: the step-0 mask; "
        "rotate: masks that take turns within the budget, probe_every steps each; full-keep / full-rollback: all "
        "components, kept or undone afterwards (exceeds the budget's memory meanwhile).",
        choices=("hold", "rotate", "full-keep", "full-rollback"),
    ),
    "watch_steps": Parameter(int, None, "Steps before the first forecast; by default a fifth of the run."),
}  # fmt: skip
_ORACLE = {
    "oracle_trajectory": Parameter(
        str, None, "Trajectory folder of a recorded run of this task with policy 'full'.", required=True
    )
}
_SCHEDULE = {"mask_schedule": Parameter(str, None, "The schedule.json of a run.", required=True)}
_REDRAW = Parameter(bool, False, "Draw a new mask at every re-mask.")

_OF_COMPONENTS = {
    "full": Entry("simple.Full", frozenset({"candidates"})),
    "static": Entry("simple.Static", _RANKED | SCORING | TARGET),
    "random": Entry(
        "simple.Random",
        _RANKED | {"remask_every"},
        {
            "redraw": _REDRAW,
            "by": Parameter(
                str, "component", "What is drawn: single components, or whole layers.", choices=("component", "layer")
            ),
        },
    ),
    "prior": Entry("simple.Prior", _RANKED | TARGET | {"scorer"}),
    "reactive": Entry("simple.Reactive", _RANKED | SCORING | TARGET | {"remask_every"}),
    "foresight": Entry(
        "foresight.Foresight",
        _RANKED | RECORDING | {"remask_every", "horizon", "forecaster", "forecaster_params", "gate"},
        {"cutoff": Parameter(int, None, "Last step the forecaster may see; by default every snapshot."), **_WATCH},
    ),
    "probing": Entry("scouted.Probing", _RANKED | SCORING, _SCOUT),
    "predicted": Entry("scouted.Predicted", _RANKED | SCORING, _SCOUT),
    "displaced": Entry("scouted.Displaced", _RANKED | SCORING, _SCOUT),
    "oracle": Entry("recorded.Oracle", _RANKED | TARGET | {"scorer"}, _ORACLE),
    "oracle_ahead": Entry("recorded.OracleAhead", _RANKED | {"scorer", "remask_every", "horizon"}, _ORACLE),
    "replay": Entry("recorded.Replay", _REPLAYED, _SCHEDULE),
}
_PROBE = frozenset({"scorer", "probe_examples", "probe_batch_size"})
_OF_WEIGHTS = {
    "random": Entry("single_weights.simple.RandomWeights", _ALWAYS | {"remask_every"}, {"redraw": _REDRAW}),
    "static": Entry("single_weights.simple.StaticWeights", _ALWAYS | _PROBE),
    "reactive": Entry("single_weights.simple.ReactiveWeights", _ALWAYS | _PROBE | {"remask_every"}),
    "movement": Entry(
        "single_weights.simple.Movement",
        _ALWAYS,
        {
            "movement_from": Parameter(
                str, None, "The output folder, or delta, of a run of this model, such as one with policy 'full'; with "
                "that of a full run of this task, the mask is hindsight.", required=True,
            )
        },
    ),
    "foresight": Entry(
        "single_weights.foresight.WeightForesight",
        _ALWAYS | {"remask_every"},
        {
            "maps": Parameter(
                list, None, "What tells how much each row and column will take part: run folders, deltas, PEFT "
                "adapters or checkpoints of this base, or files by `foresight maps`. Without any, the first mask is "
                "random.",
            ),
            "lora_steps": Parameter(
                int, None, "Steps of a LoRA run on the same data, made first and undone, that tells how far rows and "
                "columns move; by default none.",
            ),
            "scale_rate": Parameter(
                bool, True, "Take learning_rate for that of a random mask, and divide it by how much farther than the "
                "average weight those of the first mask have moved in other runs (about 3 for the same task): they "
                "then move about as far as random weights would.",
            ),
            "own": Parameter(bool, True, "Draw the mask anew by how far the run itself has moved its weights."),
            "watch": Parameter(
                str, "hold", "What is trained until then. hold: the first mask; full-keep / full-rollback: all "
                "weights, kept or undone afterwards (exceeds the budget's memory meanwhile).",
                choices=("hold", "full-keep", "full-rollback"),
            ),
            "watch_steps": _WATCH["watch_steps"],
        },
    ),
    "replay": Entry("recorded.Replay", _REPLAYED, _SCHEDULE),
}  # fmt: skip
_ENTRIES = {"components": _OF_COMPONENTS, "vectors": _OF_COMPONENTS, "rows": _OF_COMPONENTS, "weights": _OF_WEIGHTS}
POLICIES = tuple(dict.fromkeys((*_OF_COMPONENTS, *_OF_WEIGHTS)))
"""Names of all policies."""
PARAMETERS = frozenset(name for entries in _ENTRIES.values() for one in entries.values() for name in one.parameters)
"""Names of the parameters of all policies."""

REMOVED = {
    "damage": "policy 'reactive' with target 'damage'",
    "ema": "policy 'foresight' with forecaster 'smoothing' and gate false",
    "layers": 'policy \'random\' with policy_params {"by": "layer", "redraw": true}',
    "utility": "policy 'reactive' with target 'utility' and target_params {\"preconditioner\": \"moves\"}",
    "value": "policy 'prior'",
}
"""Policies of earlier versions, and what does the same now (or, for 'value', comes nearest)."""


def entry(policy: str, granularity: str) -> Entry:
    """The policy of that name for that granularity.

    Raises:
        UnknownNameError: no policy or granularity of that name; the message offers the closest.
        ConfigError: a policy of an earlier version, or one that does not choose masks of this granularity.
    """
    found = _ENTRIES[one_of("granularity", granularity, GRANULARITIES)]
    if policy in REMOVED:
        raise ConfigError(f"policy {policy!r} was removed; use {REMOVED[policy]}")
    one_of("policy", policy, POLICIES)
    if policy not in found:
        others = " or ".join(repr(name) for name, entries in _ENTRIES.items() if policy in entries)
        raise ConfigError(
            f"policy {policy!r} does not choose masks of {granularity}; use granularity {others}, or one of "
            f"{', '.join(found)}"
        )
    return found[policy]


def checked_params(policy: str, granularity: str, params: Any) -> dict[str, Any]:
    """The parameters of a policy, defaults included.

    Args:
        params: a mapping, as JSON text too; None for no parameters.

    Raises:
        ConfigError: not a mapping, a key that the policy does not take (the message says what would), a value that
            does not fit, or a missing one.
    """
    known = entry(policy, granularity).parameters
    given = mapping("policy_params", params, '{"redraw": true}') or {}
    for name in given:
        if name not in known:
            raise ConfigError(_unknown(name, policy, granularity, known))
    found = {}
    for name, parameter in known.items():
        value = given.get(name, parameter.default)
        if value is None and parameter.required:
            raise ConfigError(f"policy {policy!r} needs policy_params.{name}: {parameter.help}")
        found[name] = parameter.check(f"policy_params.{name}", value)
    return found


def make_policy(policy: str, granularity: str, params: Any = None) -> Policy:
    """Build a policy from its own parameters; `Policy.prepare` then gives it what a run has.

    Raises:
        ConfigError: as `entry` and `checked_params`.
    """
    return policy_class(policy, granularity)(**checked_params(policy, granularity, params))


def policy_class(policy: str, granularity: str) -> type[Policy]:
    """The class behind a name; only its module is imported. Raises as `entry`."""
    return part(f"policies.{entry(policy, granularity).home}")


def takers(setting: str, granularity: str) -> list[str]:
    """The policies over that granularity that take a setting."""
    return [name for name, one in _ENTRIES[granularity].items() if setting in one.takes]


def parameters() -> dict[str, tuple[Parameter, list[tuple[str, str]]]]:
    """The parameters of all policies by name, each with the (policy, granularity) pairs that take it."""
    found: dict[str, tuple[Parameter, list[tuple[str, str]]]] = {}
    for granularity, entries in _ENTRIES.items():
        for policy, one in entries.items():
            for name, parameter in one.parameters.items():
                found.setdefault(name, (parameter, []))[1].append((policy, granularity))
    return found


def _unknown(name: str, policy: str, granularity: str, known: Iterable[str]) -> str:
    others = [
        f"policy {other!r}" + ("" if grain == granularity else f" over {grain}")
        for grain in (granularity, "components" if granularity == "weights" else "weights")
        for other, one in _ENTRIES[grain].items()
        if name in one.parameters
    ]
    if others:
        hint = f"it belongs to {', '.join(others)}"
    elif name in OPTIONAL:
        hint = f"it is a setting of its own, taken by {', '.join(takers(name, granularity)) or 'no policy'}"
    else:
        hint = f"it takes {', '.join(known) or 'none'}{did_you_mean(name, known)}"
    return f"policy {policy!r} over {granularity} takes no policy_params.{name}; {hint}"
