"""Target `damage`: what training a component will cost in skills that are to be kept.

Forecasters take magnitudes. Damage has a sign, so its positive part (harm) and its negative part (help) are forecast
as two series and subtracted: exact for what was measured, and the same as forecasting damage itself for every linear
forecaster that stays above zero. Our own definition.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ...common.errors import ConfigError, TrajectoryError
from ...scoring.scorer import BENEFIT, DAMAGE
from ...trajectory.series import Series
from . import register
from .target import Target


@register("damage")
class Damage(Target):
    """Benefit - damage_weight * damage of virtual moves (see `VirtualMoves`), in the mean over the steps up to the
    horizon; or damage alone, the lowest first.

    The budget is filled whatever the scores: a component that does more harm than good is still taken if nothing
    better is left, so that arms of one budget train equally much.

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
        damage = damage[:, : len(series.steps)]
        if damage.shape != series.values.shape:
            raise TrajectoryError(
                f"damage has shape {damage.shape}; expected that of benefit, {series.values.shape}: both are measured "
                "at every snapshot"
            )
        harm, help_ = (replace(series, values=np.maximum(sign * damage, 0), stderr=None) for sign in (1, -1))
        return series, harm, help_

    def combine(self, parts: Sequence[np.ndarray]) -> np.ndarray:
        benefit, harm, help_ = parts
        damage = harm - help_
        return benefit - self.weight * damage if self.benefit else -damage
