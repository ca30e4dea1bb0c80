"""The arms of a comparison: ways to choose what is trained, with everything else equal.

Every arm gets the same sweep of learning rate and optimizer memory (`settings.CompareConfig.memories`). Memory is swept
because it decides as much as the mask does: a component that enters a mask starts with fresh Adam moments, and fresh
moments alone speed up learning, so that a policy that re-masks would win by its bookkeeping.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from ...common.errors import ConfigError, did_you_mean, one_of
from ...forecasters import REGISTRY as FORECASTERS
from ...scoring import SCORERS
from ...training.checks import check_settings
from ...training.settings import NAMES, REMOVED, MaskSettings


@dataclass(frozen=True)
class Arm:
    """One way to choose what is trained, with its settings.

    Attributes:
        label: what a reader sees.
        about: what it knows when it chooses, in a few words.
        settings: fields of `ForesightConfig` that this arm sets, the policy among them; empty for adapters.
        method: "mask", or an adapter of `foresight.studies.adapters`.
        learns: whether it sees recorded runs of other tasks.
        draws: repetitions with other random masks; they are averaged before anything is compared.
        hindsight: what it knows of a full run of its own task, seed and data order: the "circuit" at the end, the
            "utility" of every component all along, or the "movement" of every weight. Such an arm is no method.
        sized_by: the arm whose run on the same task and seed sets the size of the mask: all vectors that it touched.
        memory: the only optimizer memory that it is tuned with; None for all of the comparison's.
    """

    name: str
    label: str
    about: str
    settings: dict[str, Any] = field(default_factory=dict, hash=False)
    method: str = "mask"
    learns: bool = False
    draws: int = 1
    hindsight: Literal["circuit", "utility", "movement"] | None = None
    sized_by: str | None = None
    memory: str | None = None

    @property
    def retains(self) -> bool:
        """Whether it trains on, or scores, examples of the retained tasks."""
        return self.settings.get("target") == "damage" or bool(self.settings.get("replay_share"))

    @property
    def trains_everything(self) -> bool:
        """Whether it has no mask, so that a budget means nothing to it."""
        return self.settings.get("policy") == "full"

    @property
    def weights(self) -> bool:
        """Whether its masks are of single weights, so that it scores no components and records no trajectory."""
        return self.settings.get("granularity") == "weights"


def _mask(name: str, label: str, about: str, policy: str | None = None, **given: Any) -> Arm:
    parts = {key: given.pop(key) for key in ("learns", "draws", "hindsight", "sized_by") if key in given}
    return Arm(name, label, about, {"policy": policy or name, **given}, **parts)


def _weights(policy: str, label: str, about: str, name: str | None = None, **given: Any) -> Arm:
    return _mask(f"weights_{name or policy}", label, about, policy, granularity="weights", **given)


ARMS = {
    arm.name: arm
    for arm in (
        _mask("full", "Full", "trains every component, so it has no mask; the reference", record=True),
        _mask("random", "Random", "knows nothing: a fixed mask drawn at random", draws=3),
        _mask("rotating", "Rotating", "knows nothing: drawn anew at every re-mask", "random",
              policy_params={"redraw": True}, draws=2),
        _mask("prior", "Prior", "layer and kind only, learned from other tasks", learns=True),
        _mask("static", "Static", "the circuit before training"),
        _mask("touched", "Static, as many as touched", "the circuit before training, as large as all that the reactive "
              "arm touches during its run", "static", sized_by="reactive"),
        _mask("reactive", "Reactive", "the circuit at the last snapshot, re-masked as it changes"),
        _mask("smoothed", "Smoothed", "the smoothed mean of the snapshots so far, re-masked as it changes",
              "foresight", forecaster="smoothing", gate=False),
        _mask("utility", "Utility", "what a virtual optimizer step would gain most", "reactive", target="utility",
              target_params={"preconditioner": "moves"}),
        _mask("damage", "Damage-aware", "that gain minus what the step would cost in retained skills", "reactive",
              target="damage"),
        _mask("foresight", "Foresight", "the circuit forecast from this run and from other tasks", learns=True),
        _mask("probing", "Probing", "the circuit after a short run before training, which is undone"),
        _mask("predicted", "Predicted", "the circuit that Taylor's formula predicts for the end of that short run"),
        _mask("displaced", "Displaced", "the circuit of a model moved to the end of that short run: the control of "
              "Predicted"),
        _mask("oracle", "Oracle", "hindsight: the circuit at the end of a full run of this task", hindsight="circuit"),
        _mask("oracle_utility", "Oracle by utility", "hindsight: what a full run of this task gained most from next",
              "oracle_ahead", hindsight="utility", scorer="utility"),
        _mask("full_replay", "Full with replay", "trains everything; a quarter of each batch is retained tasks",
              "full", replay_share=0.25),
        _mask("static_replay", "Static with replay", "the circuit before training; a quarter of each batch is retained "
              "tasks", "static", replay_share=0.25),
        _mask("damage_replay", "Damage-aware with replay", "both: gain minus harm, and replay of a quarter", "reactive",
              target="damage", replay_share=0.25),
        _weights("random", "Weights: random", "single weights drawn at random", draws=2),
        _weights("static", "Weights: static", "single weights of highest |gradient x weight| before training"),
        _weights("foresight", "Weights: foresight", "single weights drawn by how much their row and column moved in "
                 "the first steps"),
        _weights("movement", "Weights: hindsight", "the single weights that a full run of this task moved farthest",
                 "hindsight", hindsight="movement"),
        Arm("lora", "LoRA", "low-rank changes of all Linears, with as many parameters", method="lora"),
        Arm("adalora", "AdaLoRA", "low-rank changes whose ranks are pruned during the run", method="adalora"),
        Arm("circuit_lora", "LoRA by circuit", "LoRA whose ranks follow the circuit before training",
            method="circuit_lora"),
        Arm("shira", "SHiRA", "single weights drawn at random, as an adapter", method="shira", draws=2),
        Arm("ia3", "IA3", "scales of activations; its size is fixed", method="ia3"),
    )
}  # fmt: skip
"""By name, in the order of tables and plots."""

FAMILIES = {
    "static": ("scorer", "the circuit before training by scorer {}"),
    "reactive": ("remask_every", "the circuit at the last snapshot, re-masked every {} steps"),
    "foresight": ("forecaster", "the circuit that {} forecasts, whether it has proved itself or not"),
}
"""Arms written ``static:SCORER``, ``reactive:STEPS``, ``foresight:FORECASTER``: the setting, and what the arm knows."""

GONE: dict[str, dict[str, Any]] = {
    "ema": {
        "like": "smoothed",
        "label": "EMA",
        "about": "a moving average of the snapshots so far, re-masked as it changes",
    },
    "layers": {
        "like": "rotating",
        "label": "Layers",
        "about": "knows nothing: whole layers drawn anew at every re-mask",
        "settings": {"policy_params": {"by": "layer"}},
    },
}
"""Arms of earlier versions, and what to write instead."""

_OWN = ("name", "like", "label", "about", "draws", "memory", "settings")


def arm(given: str | Mapping[str, Any]) -> Arm:
    """The arm that a recipe asks for.

    Args:
        given: a name from ARMS, a member of one of FAMILIES, or a mapping with `name` and `like` (another arm) and any
            of label, about, draws, memory and settings, which replace those of the arm that it is like.

    Raises:
        UnknownNameError: no such arm, scorer or forecaster; the message offers the closest.
        ConfigError: a mapping that lacks name or like or has other keys, or a setting that cannot be used.
    """
    if isinstance(given, str):
        return _named(given)
    if not isinstance(given, Mapping) or not {"name", "like"} <= set(given):
        raise ConfigError(f"arm {given!r}: expected a name, or a mapping with name and like")
    for key in given:
        if key not in _OWN:
            raise ConfigError(f"arm {given['name']!r}: unknown key {key!r}{did_you_mean(key, _OWN)}")
    base = _named(given["like"])
    changes = {key: value for key, value in given.items() if key != "like"}
    settings, policy = dict(given.get("settings") or {}), base.settings.get("policy")
    if "policy_params" in settings and settings.get("policy", policy) == policy:
        settings["policy_params"] = {**base.settings.get("policy_params", {}), **settings["policy_params"]}
    found = replace(base, **{"label": given["name"], **changes, "settings": base.settings | settings})
    _check(found)
    return found


def arms(given: Iterable[str | Mapping[str, Any]]) -> dict[str, Arm]:
    """The arms by name, `full` first, otherwise in the given order. Raises ConfigError for two of one name."""
    found = [arm(entry) for entry in given]
    names = [a.name for a in found]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"two arms are called {name!r}; give each its own name")
    return {a.name: a for a in sorted(found, key=lambda a: a.name != "full")}


def recorded(given: str | Mapping[str, Any]) -> str | Mapping[str, Any]:
    """An entry of `arms` of a finished comparison, made readable: what no longer exists becomes a label.

    The arm keeps its name, its label and what it knew; for everything else it is like the arm that replaced it.
    """
    try:
        arm(given)
        return given
    except ConfigError:
        entry = {"name": given, "like": given} if isinstance(given, str) else {**given, "settings": {}}
    family, _, value = entry["like"].partition(":")
    if (gone := GONE.get(entry["like"])) is not None:
        return {**gone, **entry, "like": gone["like"]}
    if value and family in FAMILIES:
        label, about = f"{ARMS[family].label}: {value}", FAMILIES[family][1].format(value)
        return {"label": label, "about": about, **entry, "like": family}
    return entry


def _check(found: Arm) -> None:
    """Raises ConfigError for a mask's setting that no longer exists, or that the arm's policy does not take."""
    for name in found.settings:
        if name in REMOVED:
            raise ConfigError(f"arm {found.name!r} sets {name}: {REMOVED[name]}")
    given = {name: value for name, value in found.settings.items() if name in NAMES}
    if found.method != "mask":
        if given:
            raise ConfigError(f"arm {found.name!r} is an adapter and has no mask; remove {', '.join(given)}")
        return
    if found.hindsight is not None:  # a run will be named when there is one
        told = "movement_from" if found.hindsight == "movement" else "oracle_trajectory"
        given["policy_params"] = {**given.get("policy_params", {}), told: "a full run"}
    try:
        check_settings(MaskSettings(**given))
    except ConfigError as error:
        raise ConfigError(f"arm {found.name!r}: {error}") from error


def _named(name: str) -> Arm:
    family, _, value = name.partition(":")
    if name in GONE:
        instead = {"name": name, **GONE[name]}
        raise ConfigError(f"arm {name!r} no longer exists; write {json.dumps(instead)} instead")
    if not value:
        return ARMS[one_of("arm", name, (*ARMS, *(f"{family}:..." for family in FAMILIES)))]
    base = ARMS[one_of("family of arms", family, FAMILIES)]
    setting, about = FAMILIES[family]
    chosen: dict[str, Any] = {setting: value}
    if family == "static":
        one_of("scorer", value, SCORERS)
    elif family == "reactive":
        if not value.isdecimal() or int(value) < 1:
            raise ConfigError(f"arm {name!r}: {value!r} is no number of steps; write for example reactive:10")
        chosen = {setting: int(value)}
    else:
        FORECASTERS.check_name(value)
        chosen["gate"] = False
    label, about = f"{base.label}: {value}", about.format(value)
    return replace(base, name=name, label=label, about=about, settings=base.settings | chosen)
