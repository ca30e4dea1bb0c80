"""Forecasters without anything to learn: the last snapshot, and averages of snapshots."""

from __future__ import annotations

import numpy as np

from ..trajectory.series import Series
from . import register
from .forecaster import Forecaster, check_range
from .relative import from_relative, to_relative


@register("persistence")
class Persistence(Forecaster):
    """The last snapshot, whatever the horizon."""

    def _fit(self, series: Series) -> None:
        pass

    def _predict(self, horizon: int) -> np.ndarray:
        return self.series_.values[:, -1]


@register("mean")
class Mean(Forecaster):
    """The mean of the relative log scores so far, at the level of the last snapshot.

    The mean of logs is geometric, so that no single loud step decides. All snapshots count alike, however irregular
    their steps, and the horizon does not matter.
    """

    def _fit(self, series: Series) -> None:
        logs, level = to_relative(series.values)
        self.mean_ = from_relative(logs[:, level > 0].mean(1) if level.any() else logs[:, -1], level[-1])

    def _predict(self, horizon: int) -> np.ndarray:
        return self.mean_


@register("smoothing")
class Smoothing(Forecaster):
    """Exponentially weighted mean of the relative log scores (Brown 1956), at the level of the last snapshot.

    s <- s + (1 - (1 - alpha)^(gap / cadence)) (x - s), from the first snapshot on: at even steps this is the textbook
    recursion, and a late snapshot counts as much as the ones it stands in for. The horizon does not matter.

    Args:
        alpha: weight of a new snapshot, in (0, 1]; 1 is persistence.
    """

    def __init__(self, alpha: float = 0.3):
        self.alpha = alpha

    def _check_params(self) -> None:
        check_range(self, "alpha", 1e-9, 1)

    def _fit(self, series: Series) -> None:
        logs, level = to_relative(series.values)
        seen = np.flatnonzero(level > 0)  # a step whose scores are all zero says nothing about which components matter
        smooth = logs[:, seen[0] if len(seen) else 0].astype(np.float64)
        gaps = np.diff(series.steps[seen]) / series.cadence
        for step, gap in zip(seen[1:], gaps, strict=True):
            smooth += (1 - (1 - self.alpha) ** gap) * (logs[:, step] - smooth)
        self.smoothed_ = from_relative(smooth, level[-1])

    def _predict(self, horizon: int) -> np.ndarray:
        return self.smoothed_
