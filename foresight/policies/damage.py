"""Policies by what training a component would gain, and what harm it would do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..common.errors import ConfigError
from ..forecasters import Forecaster
from ..masks.masks import Mask
from ..scoring.virtual_moves import BENEFIT, DAMAGE
from .base import Past, Policy, View
from .simple import Reactive
from .targets import damage as targets
from .targets.retained_damage import over_the_rest


class Utility(Reactive):
    """What training would gain most at the last snapshot: the benefit of virtual moves (see foresight.damage)."""

    name = "utility"
    measures = (BENEFIT,)

    def __init__(self) -> None:
        super().__init__()


class Damage(Policy):
    """What training would gain most for the least harm to retained skills: benefit - damage_weight * damage.

    Both are of virtual moves (see foresight.damage), measured anew at every decision. With weight 0 it is `Utility`.
    The budget is filled whatever the scores: a component that does more harm than good is still taken if nothing
    better is left, so that arms of one budget train equally much.

    Args:
        damage_weight: nats of target loss that a nat of retained loss is worth, >= 0.
        damage_forecaster: if given, benefit and damage are forecast over the rest of the run from those measured so
            far; fitted anew at every decision. None, its control, takes the last measurement.
        history: past runs to pretrain it on, if any, with their damage (on benefit, harm and help; see `damage.parts`).
    """

    name = "damage"
    needs_scores = True
    remasks = True
    ranks = True
    measures = (BENEFIT, DAMAGE)

    def __init__(
        self,
        damage_weight: float = 1.0,
        damage_forecaster: Forecaster | None = None,
        history: Sequence[Past] = (),
    ):
        self.weight, self.forecaster = damage_weight, damage_forecaster
        if damage_forecaster is not None and history:
            known = targets.Damage(damage_weight)
            damage_forecaster.pretrain([part for past in history for part in known.parts(past.series, past.damage)])

    def mask(self, view: View) -> Mask:
        seen = view.seen()
        if view.damage is None:
            raise ConfigError(f"policy 'damage' needs the damage measured at step {view.step}; measure virtual moves")
        damage = view.damage[:, : len(seen.steps)]
        left = view.total_steps - int(seen.steps[-1])
        if self.forecaster is None or left < 1:
            benefit, harm = seen.values[:, -1], damage[:, -1]
        else:
            benefit, harm = over_the_rest(self.forecaster, seen, damage, left)
        return view.select(benefit - self.weight * harm)

    def state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        return ({}, {}) if self.forecaster is None else self.forecaster.state()

    def load_state(self, arrays: Mapping[str, np.ndarray], data: Mapping[str, Any]) -> None:
        if self.forecaster is None:
            super().load_state(arrays, data)
        else:
            self.forecaster.load_state(arrays, data)
