"""Policies by name, and what each has to be given."""

from __future__ import annotations

from typing import Any

from ..common.errors import ConfigError, UnknownNameError, did_you_mean
from .base import Policy, build
from .damage import Damage, Utility
from .foresight import Foresight
from .layers import Layers
from .prior import Prior
from .recorded import Oracle, OracleAhead, Replay
from .scouted import Displaced, Predicted, Probing
from .simple import Ema, Full, Random, Reactive, Static
from .value import Value

_POLICIES: dict[str, type[Policy]] = {
    cls.name: cls
    for cls in (
        Full,
        Static,
        Random,
        Layers,
        Prior,
        Reactive,
        Ema,
        Utility,
        Damage,
        Value,
        Foresight,
        Probing,
        Predicted,
        Displaced,
        Oracle,
        OracleAhead,
        Replay,
    )
}
POLICIES = tuple(_POLICIES)

NEEDS = {
    "damage_forecaster": "a forecaster of benefit and damage, or none",
    "damage_weight": "how much a nat of retained loss weighs against one of target loss",
    "ema_decay": "the decay of the moving average, per snapshot",
    "forecaster": "a forecaster, see `foresight forecasters list`",
    "history": "trajectory folders of past runs",
    "mask_schedule": "the schedule.json of a run",
    "oracle_trajectory": "the trajectory folder of a recorded run with policy 'full' on this task and model",
    "outcomes": "the file of what masks of past runs have led to",
    "scouted": "scores from a scouting run, which a ForesightTrainer makes when it begins to train",
    "target": "what a forecast is of, see foresight.targets",
    "oracle_damage": "the damage that a recorded run with target 'damage' has measured",
    "gate": "whether forecasts are believed only where they have proved their worth",
    "redraw": "whether random masks are drawn anew at every re-mask",
}
"""What policies can be given, in the words of an error message."""


def policy_class(name: str) -> type[Policy]:
    """The policy registered under a name. Raises UnknownNameError, which offers the closest."""
    if name not in _POLICIES:
        raise UnknownNameError("policy", name, POLICIES)
    return _POLICIES[name]


def make_policy(name: str, **needs: Any) -> Policy:
    """Build a policy from what the run has: those of NEEDS that it takes are passed on, None counts as absent.

    Raises:
        UnknownNameError: no policy of that name; the message offers the closest.
        ConfigError: something the policy needs is absent, or nothing in NEEDS has that name.
    """
    cls = policy_class(name)
    for need in needs:
        if need not in NEEDS:
            raise ConfigError(f"policies know no {need!r}{did_you_mean(need, NEEDS)}; known: {', '.join(NEEDS)}")
    return build(cls, needs, lambda param: f"policy {name!r} needs {param}: {NEEDS[param]}")
