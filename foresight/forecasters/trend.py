"""Trends: a straight line through the scores, and a trend that is followed for a while and then levels out."""

from __future__ import annotations

from itertools import product

import numpy as np

from ..trajectory.series import Series
from . import register
from .forecaster import Forecaster, check_range
from .relative import LogScores, sample

LEVEL_WEIGHTS = (0.3, 0.6, 1.0)
TREND_WEIGHTS = (0.0, 0.1, 0.3, 0.6)
DAMPINGS = (0.6, 0.8, 0.9, 0.97)
STARTS = (0.0, 1.0)
"""Candidates for the constants. With start and trend weight 0 it is smoothing; with level weight 1 too, persistence."""
MAX_ROWS = 1_000
"""Components on which the constants are chosen."""
RECENT = 64
"""The latest snapshots with scores, which `damped_drift` reads: of older ones hardly anything is left in its level."""


@register("drift")
class Drift(Forecaster):
    """The last score plus its mean slope over the whole series times the horizon, optionally damped.

    The drift method of Hyndman and Athanasopoulos (Forecasting: Principles and Practice, section 5.2): the slope is
    last minus first score, per step. Damping is that of Gardner and McKenzie (1985): over h cadences the slope counts
    damping + damping^2 + ... + damping^h times, here for fractions of a cadence as well. Scores below 0 become 0.

    Args:
        damping: in (0, 1]; 1 is a straight line.
    """

    def __init__(self, damping: float = 1.0):
        self.damping = damping

    def _check_params(self) -> None:
        check_range(self, "damping", 1e-9, 1)

    def _fit(self, series: Series) -> None:
        span = max(1, int(series.steps[-1] - series.steps[0]))
        first, last = series.values[:, 0].astype(np.float64), series.values[:, -1]
        self.slope_ = (last - first) / span

    def _predict(self, horizon: int) -> np.ndarray:
        unit = self.series_.cadence
        return self.series_.values[:, -1] + self.slope_ * (unit * _powers(float(self.damping), horizon / unit))


@register("damped_drift")
class DampedDrift(Forecaster):
    """Exponential smoothing with a damped trend (Gardner and McKenzie 1985), on relative log scores.

    Over h cadences the level moves by (phi + phi^2 + ... + phi^h) times the trend, and the trend shrinks to phi^h of
    itself; here also for fractions of a cadence, so that snapshots need not be even. All components share one set of
    constants (weights of a new snapshot in the level and in the trend, phi, how much of the first change is trend):
    the set of a grid with the least squared error one snapshot ahead inside the series. `drift` with damping < 1 takes
    the damping as given; this forecaster learns from the run whether trends last. Both constants and recursion come
    from the RECENT latest snapshots, so that a long run costs no more than a short one.

    Args:
        min_snapshots: with fewer it predicts persistence, at least 3.

    Attributes:
        constants_: (level weight, trend weight, damping, start).
    """

    def __init__(self, min_snapshots: int = 4):
        self.min_snapshots = min_snapshots

    def _check_params(self) -> None:
        check_range(self, "min_snapshots", 3, 1_000_000, whole=True)

    def _fit(self, series: Series) -> None:
        self._logs = LogScores(series)
        logs, gaps = self._logs.values[-RECENT:], np.diff(self._logs.time[-RECENT:])
        if len(logs) < self.min_snapshots:
            self.fallback_ = f"persistence: {len(logs)} snapshots with scores, {self.min_snapshots} are needed"
            return
        few = logs[:, sample(logs.shape[1], MAX_ROWS)]
        grid = product(LEVEL_WEIGHTS, TREND_WEIGHTS, DAMPINGS, STARTS)
        self.constants_ = min(grid, key=lambda constants: _follow(few, gaps, *constants)[2])
        self.level_, self.trend_, _ = _follow(logs, gaps, *self.constants_)

    def _predict(self, horizon: int) -> np.ndarray:
        ahead = _powers(self.constants_[2], horizon / self._logs.cadence)
        return self._logs.scores(self.level_ + ahead * self.trend_)


def _follow(
    logs: np.ndarray, gaps: np.ndarray, level_weight: float, trend_weight: float, damping: float, start: float
) -> tuple[np.ndarray, np.ndarray, float]:
    """Level [n] and trend [n] after the last of `logs` [t, n], and the sum of squared errors one snapshot ahead.

    Starts from the second snapshot, with a share of the change since the first as trend. After a long gap the weights
    are those of the snapshots that would have filled it, and an error corrects the trend as if the trend at the end of
    the gap had caused it.
    """
    level, squares = logs[1].astype(np.float64), 0.0
    trend = (level - logs[0]) * (start * damping ** gaps[0] / _powers(damping, gaps[0]))
    for now, gap in zip(logs[2:], gaps[1:], strict=True):
        ahead, left = _powers(damping, gap), damping**gap
        level += ahead * trend
        error = now - level
        squares += float(error @ error)
        error *= 1 - (1 - level_weight) ** gap
        level += error
        trend *= left
        trend += (1 - (1 - trend_weight) ** gap) * left / ahead * error
    return level, trend, squares


def _powers(damping: float, periods: float) -> float:
    """damping + damping^2 + ... + damping^periods, also between whole numbers."""
    if damping == 1:
        return periods
    return damping * (1 - damping**periods) / (1 - damping)
