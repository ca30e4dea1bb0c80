"""Pooled ridge regression (Hoerl and Kennard 1970), scikit-learn's."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.linear_model import Ridge

from .base import check_range
from .pooled import PooledForecaster
from .registry import register


@register("ridge")
class PooledRidge(PooledForecaster):
    """Linear in the features, and in the features times log(1 + horizon).

    Args:
        alpha: L2 penalty per training example, >= 0; larger is closer to the mean change, which is near persistence.
        max_rows: most training examples taken from the run, and as many from past runs; 100 to 200,000.
        min_snapshots: fewest snapshots to learn from without past runs, at least 3.
    """

    def __init__(self, alpha: float = 1e-3, max_rows: int = 50_000, min_snapshots: int = 4):
        self.alpha = alpha
        self.max_rows = max_rows
        self.min_snapshots = min_snapshots

    def _check_params(self) -> None:
        super()._check_params()
        check_range(self, "alpha", 0, 1e9)

    def _regressor(self, n_rows: int) -> Any:
        return Ridge(alpha=self.alpha * n_rows)

    @staticmethod
    def _design(features: np.ndarray, horizons: np.ndarray) -> np.ndarray:
        ahead = np.log1p(horizons)[:, None]
        return np.hstack([features, features * ahead, ahead])
