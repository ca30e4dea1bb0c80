"""Mean of the snapshots so far: scores are noisy, so that their average can beat the last one."""

from __future__ import annotations

import numpy as np

from ..trajectory.series import Series
from .base import Forecaster
from .registry import register
from .relative import from_relative, to_relative


@register("mean")
class Mean(Forecaster):
    """The mean of the relative log scores (a geometric mean, so that no single loud step decides), at the last level.

    All snapshots count alike, however irregular their steps, and the horizon does not matter.
    """

    def _fit(self, series: Series) -> None:
        logs, level = to_relative(series.values)
        self.mean_ = from_relative(logs[:, level > 0].mean(1) if level.any() else logs[:, -1], level[-1])

    def _predict(self, horizon: int) -> np.ndarray:
        return self.mean_
