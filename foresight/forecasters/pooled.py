"""Pooled regression: one regressor for all components predicts the change of each from its features.

Trained on windows inside the series (all before the cutoff) and on windows of past runs. The changes are of z
(features.py), so that runs, models and scorers of any scale can be pooled; a prediction is mapped back at the level of
the last snapshot, and no change at all is persistence.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import numpy as np

from ..common.errors import CheckpointError
from ..trajectory.series import Series
from .base import Forecaster, check_range
from .features import FEATURES, Frame, canonical_order, windows

_LARGEST = 1e6
"""Features and changes are logs and counts of snapshots: nothing larger is genuine."""


class PooledForecaster(Forecaster):
    """Base of the forecasters that pool components. A subclass has `max_rows`, `min_snapshots` and `_regressor`.

    With fewer than `min_snapshots` snapshots and no past runs it predicts persistence, and `fallback_` says so.
    Horizons beyond the longest one in training are predicted as that one.

    Attributes:
        regressor_: the fitted regressor, or None when falling back.
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
        parts = [windows(Frame(series.take(canonical_order(series))), each) for series in histories]
        self.pretrained_ = tuple(np.concatenate(arrays) for arrays in zip(*parts, strict=True))

    def _fit(self, series: Series) -> None:
        self._order = canonical_order(series)
        self._frame = Frame(series.take(self._order))
        t = len(series.steps)
        parts = [self.pretrained_] if hasattr(self, "pretrained_") else []
        if t >= self.min_snapshots:
            parts.append(windows(self._frame, self.max_rows))
        features, horizons, changes = (
            np.concatenate(arrays) for arrays in zip(*parts or [windows(self._frame, 0)], strict=True)
        )
        self.regressor_, self.max_horizon_ = None, float(horizons.max(initial=0))
        if not len(changes):
            self.fallback_ = (
                f"persistence: {t} snapshots, {self.min_snapshots} are needed to learn from, and no past run to "
                "learn from instead"
            )
            return
        self.regressor_ = self._regressor(len(changes)).fit(self._design(features, horizons), changes)

    def _predict(self, horizon: int) -> np.ndarray:
        if self.regressor_ is None:
            return self.series_.values[:, -1]
        frame = self._frame
        rows = np.arange(len(self.series_))
        features = frame.at(len(frame.time) - 1, rows)
        ahead = np.full(len(rows), min(horizon / frame.cadence, self.max_horizon_), np.float32)
        prediction = np.empty(len(rows))
        prediction[self._order] = self._to_scores(self.regressor_.predict(self._design(features, ahead)))
        return prediction

    def _to_scores(self, output: np.ndarray) -> np.ndarray:
        """Scores [n] from what the regressor says of each component [n], here the change of z; canonical order."""
        return self._frame.scores(output)

    def _pretrained_arrays(self) -> dict[str, np.ndarray]:
        if not hasattr(self, "pretrained_"):
            return {}
        return dict(zip(("features", "horizons", "changes"), self.pretrained_, strict=True))

    def _load_pretrained(self, arrays: dict[str, np.ndarray]) -> None:
        if not arrays:
            return
        rows = len(arrays.get("changes", ()))
        shapes = {"features": (rows, len(FEATURES)), "horizons": (rows,), "changes": (rows,)}
        loaded = []
        for key, shape in shapes.items():
            array = arrays.pop(key, np.zeros(0))
            fits = array.shape == shape and array.dtype == np.float32 and rows <= self.max_rows
            if not fits or not (np.abs(array) < _LARGEST).all() or (key == "horizons" and (array <= 0).any()):
                raise CheckpointError(
                    f"forecaster state: {key!r} is {array.dtype} {array.shape}; expected float32 {shape}, at most "
                    f"{self.max_rows} rows, finite and below {_LARGEST:g}, horizons > 0"
                )
            loaded.append(array)
        self.pretrained_ = tuple(loaded)
