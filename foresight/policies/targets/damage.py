"""Target `damage`: what training a component will cost in skills that are to be kept."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ...common.errors import ConfigError
from ...scoring.virtual_moves import BENEFIT, DAMAGE
from ...trajectory.series import Series
from .base import Target
from .registry import register
from .retained_damage import parts


@register("damage")
class Damage(Target):
    """Benefit - damage_weight * damage of virtual moves (see foresight.damage), in the mean over the steps up to the
    horizon, as policy `damage` ranks by; or damage alone, the lowest first.

    Args:
        damage_weight: nats of target loss that a nat of retained loss is worth, >= 0.
        benefit: false leaves the benefit out.
    """

    measures = (BENEFIT, DAMAGE)
    averaged = True

    def __init__(self, damage_weight: float = 1.0, benefit: bool = True):
        if not (math.isfinite(damage_weight) and damage_weight >= 0):
            raise ConfigError(f"target 'damage': damage_weight is {damage_weight}; expected a number >= 0")
        self.weight, self.benefit = damage_weight, benefit

    def parts(self, series: Series, damage: np.ndarray | None = None) -> tuple[Series, ...]:
        if damage is None:
            raise ConfigError("target 'damage' needs damage at every snapshot; record the run with this target")
        return parts(series, damage[:, : len(series.steps)])

    def combine(self, parts: Sequence[np.ndarray]) -> np.ndarray:
        benefit, harm, help_ = parts
        damage = harm - help_
        return benefit - self.weight * damage if self.benefit else -damage
