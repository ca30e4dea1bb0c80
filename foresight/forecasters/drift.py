"""Drift: every score goes on as it went on average, optionally less and less."""

from __future__ import annotations

import numpy as np

from ..trajectory.series import Series
from .base import Forecaster, cadence, check_range
from .registry import register


@register("drift")
class Drift(Forecaster):
    """The last score plus its mean slope over the whole series (last minus first, per step) times the horizon.

    The drift method of Hyndman and Athanasopoulos (Forecasting: Principles and Practice, section 5.2). Damping is that
    of Gardner and McKenzie (1985): over h cadences the slope counts damping + damping^2 + ... + damping^h times, here
    for fractions of a cadence as well. Scores below 0 become 0.

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
        unit, phi = cadence(self.series_.steps), float(self.damping)
        periods = horizon / unit
        if phi < 1:
            periods = phi * (1 - phi**periods) / (1 - phi)
        return self.series_.values[:, -1] + self.slope_ * (unit * periods)
