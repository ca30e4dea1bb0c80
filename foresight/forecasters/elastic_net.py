"""Pooled elastic net (Zou and Hastie 2005), scikit-learn's."""

from __future__ import annotations

from typing import Any

from sklearn.linear_model import ElasticNet
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from .base import check_range
from .pooled import PooledForecaster
from .registry import register
from .ridge import PooledRidge


@register("elastic_net")
class PooledElasticNet(PooledForecaster):
    """`ridge` that drops what does not help: L1 beside the L2 penalty, on standardised features.

    Args:
        alpha: penalty per training example, in (0, 1e9]; larger is closer to the mean change.
        l1_ratio: share of the L1 penalty, in [0, 1].
        max_rows: most training examples taken from the run, and as many from past runs; 100 to 200,000.
        min_snapshots: fewest snapshots to learn from without past runs, at least 3.
    """

    def __init__(self, alpha: float = 1e-3, l1_ratio: float = 0.5, max_rows: int = 50_000, min_snapshots: int = 4):
        self.alpha = alpha
        self.l1_ratio = l1_ratio
        self.max_rows = max_rows
        self.min_snapshots = min_snapshots

    _design = staticmethod(PooledRidge._design)

    def _check_params(self) -> None:
        super()._check_params()
        check_range(self, "alpha", 1e-12, 1e9)
        check_range(self, "l1_ratio", 0, 1)

    def _regressor(self, n_rows: int) -> Any:
        net = ElasticNet(
            alpha=self.alpha,
            l1_ratio=self.l1_ratio,
            precompute=True,  # the Gram matrix is small, and with it a pass over the features reads no examples
            max_iter=5_000,
            tol=1e-3,
            random_state=0,  # unused, but without it the global one is
        )
        return make_pipeline(StandardScaler(), net)
