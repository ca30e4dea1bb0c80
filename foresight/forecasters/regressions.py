"""Pooled regressions: one regressor of scikit-learn predicts the change of every component from its features.

Trained on windows inside the series (all before the cutoff) and on windows of past runs. The changes are those of z
(features.py), so that runs, models and scorers of any scale can be pooled. A prediction is mapped back at the level of
the last snapshot; no change at all is persistence.
"""

from __future__ import annotations

import warnings
from abc import abstractmethod
from typing import Any, Self

import numpy as np
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from ..trajectory.series import Series
from . import register
from .features import FEATURES, Frame, windows
from .forecaster import Forecaster, check_range, saved_array

LARGEST = 1e6
"""Features and changes are logs and counts of snapshots: a saved value beyond this is damaged."""
TUNING_ROWS = 300
"""Examples on which the scales of the Gaussian process are chosen, by marginal likelihood."""
BLOCK = 4_096
"""Components that the Gaussian process predicts at a time: bounds its kernel matrix."""


class PooledForecaster(Forecaster):
    """Base of the pooled regressions. A subclass has `max_rows`, `min_snapshots` and `_regressor`.

    With fewer than `min_snapshots` snapshots and no past runs it predicts persistence, and `fallback_` says so.
    Horizons beyond the longest one in training are predicted as that one. A saved state holds the training examples of
    past runs; loading fits the regressor again.

    Attributes:
        max_rows: most training examples taken from the run, and as many from past runs; 100 to 200,000.
        min_snapshots: fewest snapshots to learn from without past runs, at least 3.
        regressor_: the fitted regressor; not when falling back.
        max_horizon_: longest horizon in training, in cadences.
    """

    max_rows: int
    min_snapshots: int

    @abstractmethod
    def _regressor(self, n_rows: int) -> Any:
        """An unfitted, deterministic scikit-learn regressor for `n_rows` training examples."""

    @staticmethod
    def _design(features: np.ndarray, horizons: np.ndarray) -> np.ndarray:
        """Regressor input [m, q] from features [m, p] and horizons [m] in cadences."""
        return np.column_stack([features, np.log1p(horizons)])

    def _check_params(self) -> None:
        check_range(self, "max_rows", 100, 200_000, whole=True)
        check_range(self, "min_snapshots", 3, 1_000_000, whole=True)

    def _pretrain(self, histories: list[Series]) -> None:
        each = self.max_rows // len(histories)
        parts = [windows(Frame(series), each) for series in histories]
        self.pretrained_ = tuple(np.concatenate(arrays) for arrays in zip(*parts, strict=True))

    def _fit(self, series: Series) -> None:
        self._frame = Frame(series)
        t = len(series.steps)
        parts = [self.pretrained_] if hasattr(self, "pretrained_") else []
        if t >= self.min_snapshots:
            parts.append(windows(self._frame, self.max_rows))
        features, horizons, changes = (
            np.concatenate(arrays) for arrays in zip(*parts or [windows(self._frame, 0)], strict=True)
        )
        self.max_horizon_ = float(horizons.max(initial=0))
        if not len(changes):
            self.fallback_ = f"persistence: {t} snapshots, {self.min_snapshots} are needed, and there is no past run"
            return
        self.regressor_ = self._regressor(len(changes)).fit(self._design(features, horizons), changes)

    def _predict(self, horizon: int) -> np.ndarray:
        frame = self._frame
        rows = np.arange(len(self.series_))
        features = frame.at(len(frame.time) - 1, rows)
        ahead = np.full(len(rows), min(horizon / frame.cadence, self.max_horizon_), np.float32)
        return frame.scores(self.regressor_.predict(self._design(features, ahead)))

    def _pretrained_arrays(self) -> dict[str, np.ndarray]:
        if not hasattr(self, "pretrained_"):
            return {}
        return dict(zip(("features", "horizons", "changes"), self.pretrained_, strict=True))

    def _load_pretrained(self, arrays: dict[str, np.ndarray]) -> None:
        rows = min(len(arrays.get("changes", ())), self.max_rows)
        self.pretrained_ = (
            saved_array(arrays, "features", np.float32, (rows, len(FEATURES)), -LARGEST, LARGEST),
            saved_array(arrays, "horizons", np.float32, (rows,), 1e-30, LARGEST),
            saved_array(arrays, "changes", np.float32, (rows,), -LARGEST, LARGEST),
        )


@register("ridge")
class PooledRidge(PooledForecaster):
    """Ridge regression (Hoerl and Kennard 1970), linear in the features and in the features times log(1 + horizon).

    Args:
        alpha: L2 penalty per training example, >= 0; the larger, the closer to the mean change, which is near 0.
        max_rows, min_snapshots: see `PooledForecaster`.
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


@register("boosting")
class PooledBoosting(PooledForecaster):
    """Histogram gradient boosting (Friedman 2001; Ke et al. 2017) over the features and the horizon.

    Trees find thresholds and interactions, and do not extrapolate.

    Args:
        max_iter: trees, 1 to 10,000.
        learning_rate: in (0, 1].
        max_leaf_nodes: leaves per tree, 2 to 1,000.
        max_rows, min_snapshots: see `PooledForecaster`.
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


@register("gaussian_process")
class PooledGaussianProcess(PooledForecaster):
    """A Gaussian process (Rasmussen and Williams 2006, chapter 2) over the features and the horizon.

    It is smooth, and predicts no change far from all training examples. Its time grows with the cube of their number,
    so that it learns from few: a random share of the components of every window.

    Args:
        max_rows: as in `PooledForecaster`, but 100 to 5,000.
        min_snapshots: see `PooledForecaster`.
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
    """A radial kernel and noise, with scales chosen on some of the examples; predicts block by block.

    It runs on one thread: with matrices this small more do not pay, and sums would depend on their number.
    """

    @threadpool_limits.wrap(limits=1)
    def fit(self, X: np.ndarray, y: np.ndarray) -> Self:
        few = np.random.default_rng(0).permutation(len(X))[:TUNING_ROWS]
        variance = max(float(y.var()), 1e-6)
        shape = ConstantKernel(variance, (1e-2 * variance, 1e2 * variance)) * RBF(4.0, (0.5, 100.0))
        kernel = shape + WhiteKernel(variance, (1e-3 * variance, 1e1 * variance))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # a scale at its bound is a valid answer
            tuned = GaussianProcessRegressor(kernel, random_state=0).fit(X[few], y[few])
        self.kernel = tuned.kernel_
        return super().fit(X, y)

    @threadpool_limits.wrap(limits=1)
    def predict(self, X: np.ndarray) -> np.ndarray:
        return np.concatenate([super(_Process, self).predict(X[i : i + BLOCK]) for i in range(0, len(X), BLOCK)])
