"""Pooled Gaussian process (Rasmussen and Williams 2006, chapter 2), scikit-learn's."""

from __future__ import annotations

import warnings
from typing import Any, Self

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from .base import check_range
from .pooled import PooledForecaster
from .registry import register

TUNING_ROWS = 300
"""Examples that the kernel's scales are chosen on, by marginal likelihood."""
BLOCK = 4_096
"""Components predicted at a time: bounds the kernel matrix."""


@register("gaussian_process")
class PooledGaussianProcess(PooledForecaster):
    """Smooth in the features and the horizon; where training saw nothing alike it predicts no change.

    Its time grows with the cube of the training examples, so that it learns from few of them: a random share of the
    components of every window.

    Args:
        max_rows: most training examples taken from the run, and as many from past runs; 100 to 5,000.
        min_snapshots: fewest snapshots to learn from without past runs, at least 3.
    """

    def __init__(self, max_rows: int = 800, min_snapshots: int = 4):
        self.max_rows = max_rows
        self.min_snapshots = min_snapshots

    def _check_params(self) -> None:
        super()._check_params()
        check_range(self, "max_rows", 100, 5_000, whole=True)

    def _regressor(self, n_rows: int) -> Any:
        return make_pipeline(StandardScaler(), _Process(optimizer=None))


class _Process(GaussianProcessRegressor):
    """A radial kernel and noise, whose scales are chosen on a part of the examples; predicts block by block.

    On one thread: matrices this small are not worth more, and the sums would depend on how many there are.
    """

    @threadpool_limits.wrap(limits=1)
    def fit(self, X: np.ndarray, y: np.ndarray) -> Self:
        few = np.random.default_rng(0).permutation(len(X))[:TUNING_ROWS]
        variance = max(float(y.var()), 1e-6)
        shape = ConstantKernel(variance, (1e-2 * variance, 1e2 * variance)) * RBF(4.0, (0.5, 100.0))
        kernel = shape + WhiteKernel(variance, (1e-3 * variance, 1e1 * variance))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # a scale on its bound is a fine answer
            tuned = GaussianProcessRegressor(kernel, random_state=0).fit(X[few], y[few])
        self.kernel = tuned.kernel_
        return super().fit(X, y)

    @threadpool_limits.wrap(limits=1)
    def predict(self, X: np.ndarray) -> np.ndarray:
        return np.concatenate([super(_Process, self).predict(X[i : i + BLOCK]) for i in range(0, len(X), BLOCK)])
