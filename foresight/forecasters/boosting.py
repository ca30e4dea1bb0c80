"""Pooled histogram gradient boosting (Friedman 2001; Ke et al. 2017), scikit-learn's."""

from __future__ import annotations

from typing import Any

from sklearn.ensemble import HistGradientBoostingRegressor

from .base import check_range
from .pooled import PooledForecaster
from .registry import register


@register("boosting")
class PooledBoosting(PooledForecaster):
    """Trees over the features and the horizon: finds thresholds and interactions, does not extrapolate.

    Args:
        max_iter: trees, 1 to 10,000.
        learning_rate: in (0, 1].
        max_leaf_nodes: leaves a tree, 2 to 1,000.
        max_rows: most training examples taken from the run, and as many from past runs; 100 to 200,000.
        min_snapshots: fewest snapshots to learn from without past runs, at least 3.
    """

    def __init__(
        self,
        max_iter: int = 60,
        learning_rate: float = 0.1,
        max_leaf_nodes: int = 15,
        max_rows: int = 50_000,
        min_snapshots: int = 4,
    ):
        self.max_iter = max_iter
        self.learning_rate = learning_rate
        self.max_leaf_nodes = max_leaf_nodes
        self.max_rows = max_rows
        self.min_snapshots = min_snapshots

    def _check_params(self) -> None:
        super()._check_params()
        check_range(self, "max_iter", 1, 10_000, whole=True)
        check_range(self, "learning_rate", 1e-9, 1)
        check_range(self, "max_leaf_nodes", 2, 1_000, whole=True)

    def _regressor(self, n_rows: int) -> Any:
        return HistGradientBoostingRegressor(
            max_iter=self.max_iter,
            learning_rate=self.learning_rate,
            max_leaf_nodes=self.max_leaf_nodes,
            min_samples_leaf=40,
            early_stopping=False,  # it would hold out examples at random
            random_state=0,
        )
