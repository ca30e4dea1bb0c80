"""Simple exponential smoothing (Brown 1956): an average that forgets."""

from __future__ import annotations

import numpy as np

from ..trajectory.series import Series
from .base import Forecaster, cadence, check_range
from .registry import register
from .relative import from_relative, to_relative


@register("smoothing")
class Smoothing(Forecaster):
    """Exponentially weighted mean of the relative log scores, at the last level; the horizon does not matter.

    s <- s + (1 - (1 - alpha)^(gap / cadence)) (x - s), with the median gap between snapshots as cadence: at even
    steps this is the textbook recursion, and a late snapshot counts as much as those it stands for. Starts from the
    first snapshot.

    Args:
        alpha: weight of a new snapshot, in (0, 1]; 1 is persistence.
    """

    def __init__(self, alpha: float = 0.3):
        self.alpha = alpha

    def _check_params(self) -> None:
        check_range(self, "alpha", 1e-9, 1)

    def _fit(self, series: Series) -> None:
        logs, level = to_relative(series.values)
        seen = np.flatnonzero(level > 0)  # a step that is all zero says nothing about who matters
        smooth = logs[:, seen[0] if len(seen) else 0].astype(np.float64)
        gaps = np.diff(series.steps[seen]) / cadence(series.steps)
        for step, gap in zip(seen[1:], gaps, strict=True):
            smooth += (1 - (1 - self.alpha) ** gap) * (logs[:, step] - smooth)
        self.smoothed_ = from_relative(smooth, level[-1])

    def _predict(self, horizon: int) -> np.ndarray:
        return self.smoothed_
