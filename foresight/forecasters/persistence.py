"""Persistence: it stays as it is. What every forecast has to beat."""

from __future__ import annotations

import numpy as np

from ..trajectory.series import Series
from .base import Forecaster
from .registry import register


@register("persistence")
class Persistence(Forecaster):
    """The last snapshot, whatever the horizon."""

    def _fit(self, series: Series) -> None:
        pass

    def _predict(self, horizon: int) -> np.ndarray:
        return self.series_.values[:, -1]
