"""Pooled random forest (Breiman 2001), scikit-learn's."""

from __future__ import annotations

from typing import Any

from sklearn.ensemble import RandomForestRegressor

from .base import check_range
from .pooled import PooledForecaster
from .registry import register


@register("forest")
class PooledForest(PooledForecaster):
    """Averaged deep trees over the features and the horizon: like `boosting`, with less to tune and less to overfit.

    Saved state holds the training examples, not the trees: they grow again, from the same seed.

    Args:
        n_estimators: trees, 1 to 10,000.
        min_samples_leaf: fewest training examples in a leaf, 1 to 10,000.
        max_rows: most training examples taken from the run, and as many from past runs; 100 to 200,000.
        min_snapshots: fewest snapshots to learn from without past runs, at least 3.
    """

    def __init__(
        self, n_estimators: int = 50, min_samples_leaf: int = 20, max_rows: int = 20_000, min_snapshots: int = 4
    ):
        self.n_estimators = n_estimators
        self.min_samples_leaf = min_samples_leaf
        self.max_rows = max_rows
        self.min_snapshots = min_snapshots

    def _check_params(self) -> None:
        super()._check_params()
        check_range(self, "n_estimators", 1, 10_000, whole=True)
        check_range(self, "min_samples_leaf", 1, 10_000, whole=True)

    def _regressor(self, n_rows: int) -> Any:
        return RandomForestRegressor(
            n_estimators=self.n_estimators,
            min_samples_leaf=self.min_samples_leaf,
            max_features=1 / 3,  # Breiman's choice for regression
            random_state=0,
        )
