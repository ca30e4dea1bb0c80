"""Template: a forecaster with a parameter. Scores approach the mean of their layer at a constant rate."""

from __future__ import annotations

import numpy as np

from ...common.errors import ConfigError
from ...trajectory.series import Series
from .. import Forecaster


class TowardsTheLayer(Forecaster):
    """Every score moves towards the mean of its layer.

    Args:
        half_life: snapshots until half of the distance is left, > 0.
    """

    def __init__(self, half_life: float = 20.0):
        self.half_life = half_life  # only store it here: _check_params checks it

    def _check_params(self) -> None:
        if not self.half_life > 0:
            raise ConfigError(f"half_life is {self.half_life!r}; expected a number > 0")

    def _fit(self, series: Series) -> None:
        # series.values: float32 [n_components, n_steps], >= 0, all at or before the cutoff; read-only
        last = series.values[:, -1].astype(np.float64)
        members = np.bincount(series.layer)
        mean = np.bincount(series.layer, last) / np.maximum(members, 1)
        self.last_, self.goal_ = last, mean[series.layer]  # names of what is learned end in an underscore

    def _predict(self, horizon: int) -> np.ndarray:
        # horizon: optimizer steps after the last snapshot; returns scores [n_components], negative ones become 0
        left = 0.5 ** (horizon / self.series_.cadence / self.half_life)
        return self.goal_ + left * (self.last_ - self.goal_)
