"""The protocol of a forecaster: scikit-learn's conventions, sktime's verbs.

`pretrain` (series of past runs, optional) -> `fit` (this run so far) -> `predict` (horizon); `update` adds a snapshot.
The public methods check what comes in and goes out; a subclass writes `_fit` and `_predict`, and where it learns
from past runs `_pretrain`, `_pretrained_arrays` and `_load_pretrained`. Its `__init__` only stores parameters.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import BaseEstimator, clone
from sklearn.exceptions import NotFittedError

from ..errors import CheckpointError, ConfigError, NonFiniteError, TrajectoryError
from ..series import Series

STATE_VERSION = 1


class Forecaster(BaseEstimator, ABC):
    """Base of all forecasters.

    Attributes:
        name: what the forecaster is registered as.
        series_: the `Series` seen so far (after `fit`).
        fallback_: why `predict` is persistence for now, or None when the forecaster does its own work (after `fit`).
    """

    name: ClassVar[str] = "unregistered"

    def pretrain(self, histories: Sequence[Series]) -> Self:
        """Learn from series of past runs; they may be of other models. A forecaster that cannot ignores them.

        Raises:
            ConfigError: a parameter out of range, no history, or one that is not a `Series`.
        """
        self._check_params()
        histories = list(histories)
        if not histories:
            raise ConfigError(f"forecaster {self.name!r}: pretrain got no series; pass at least one recorded run")
        for series in histories:
            _require_series(series)
        self._pretrain(histories)
        return self

    def fit(self, series: Series) -> Self:
        """Take note of this run so far; what was pretrained stays.

        Raises:
            ConfigError: a parameter out of range, or `series` is not a `Series`.
        """
        self._check_params()
        _require_series(series)
        self.fallback_: str | None = None
        self._fit(series)
        self.series_ = series
        return self

    def update(self, step: int, values: np.ndarray) -> Self:
        """Add one snapshot; the same as `fit` on the longer series.

        Args:
            values: float32 [n_components], >= 0.

        Raises:
            NotFittedError: before `fit`.
            TrajectoryError, NonFiniteError: a step that does not follow the last one, a wrong shape, bad values.
        """
        self._check_fitted("update")
        return self.fit(self.series_.extended(step, values))

    def predict(self, horizon: int) -> np.ndarray:
        """Scores `horizon` optimizer steps after the last snapshot seen: float32 [n_components], >= 0.

        Raises:
            NotFittedError: before `fit`.
            ConfigError: horizon is not a whole number of at least 1 step.
            NonFiniteError: the forecaster predicted NaN or infinity.
        """
        self._check_fitted("predict")
        if not isinstance(horizon, int | np.integer) or isinstance(horizon, bool) or horizon < 1:
            raise ConfigError(f"horizon is {horizon!r}; expected a whole number of optimizer steps, at least 1")
        values = np.asarray(self._predict(int(horizon)))
        if values.shape != (len(self.series_),):
            raise ConfigError(f"{self.name!r} predicted shape {values.shape}; expected ({len(self.series_)},)")
        if not np.isfinite(values).all():
            raise NonFiniteError(f"forecaster {self.name!r} predicted NaN or infinite scores at horizon {horizon}")
        return np.maximum(values, 0).astype(np.float32)

    def state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """(arrays, JSON): what was pretrained and the series seen; `load_state` repeats the (deterministic) fit."""
        fitted = hasattr(self, "series_")
        arrays = {f"pretrained.{key}": array for key, array in self._pretrained_arrays().items()}
        if fitted:
            arrays.update({f"series.{key}": array for key, array in self.series_.arrays().items()})
        return arrays, {**self._identity(), "fitted": fitted}

    def load_state(self, arrays: Mapping[str, np.ndarray], data: Mapping[str, Any]) -> Self:
        """Take over a state of the same forecaster with the same parameters; on an error nothing has changed.

        Raises:
            CheckpointError: another forecaster or other parameters, or arrays that are missing, unknown or damaged.
        """
        expected = self._identity()
        if dict(data) != {**expected, "fitted": data.get("fitted")} or not isinstance(data.get("fitted"), bool):
            raise CheckpointError(
                f"forecaster state is of {dict(data)}; expected {expected} and 'fitted': build the forecaster with the "
                "same name and parameters as the one that was saved"
            )
        parts: dict[str, dict[str, np.ndarray]] = {"pretrained": {}, "series": {}}
        for key, array in arrays.items():
            part, _, rest = key.partition(".")
            if part not in parts or not isinstance(array, np.ndarray) or array.dtype.hasobject:
                raise CheckpointError(f"forecaster state has an unknown entry {key!r} or one that is not a plain array")
            parts[part][rest] = array
        if bool(parts["series"]) != data["fitted"]:
            raise CheckpointError("forecaster state says fitted, or holds a series, but not both")
        fresh = clone(self)
        try:
            left = dict(parts["pretrained"])
            fresh._load_pretrained(left)
            if left:
                raise CheckpointError(f"forecaster state has unknown arrays {sorted(left)}")
            if data["fitted"]:
                fresh.fit(Series.from_arrays(parts["series"]))
        except (TrajectoryError, NonFiniteError, ValueError) as error:
            raise CheckpointError(f"forecaster state is damaged: {error}") from error
        self.__dict__ = fresh.__dict__
        return self

    def _check_params(self) -> None:
        """Raise ConfigError for parameters out of range."""

    def _pretrain(self, histories: list[Series]) -> None:
        """Learn from past runs into attributes that `_pretrained_arrays` saves."""

    @abstractmethod
    def _fit(self, series: Series) -> None:
        """Learn from this run; deterministic, given parameters and pretraining."""

    @abstractmethod
    def _predict(self, horizon: int) -> np.ndarray:
        """Scores [n_components] `horizon` >= 1 steps after the last of `series_`; negatives are cut at 0 later."""

    def _pretrained_arrays(self) -> dict[str, np.ndarray]:
        """What `_pretrain` learned; empty if there was no pretraining."""
        return {}

    def _load_pretrained(self, arrays: dict[str, np.ndarray]) -> None:
        """Inverse of `_pretrained_arrays`: pop what is known (checking it), leave what is not."""

    def _check_fitted(self, method: str) -> None:
        if not hasattr(self, "series_"):
            raise NotFittedError(f"this {type(self).__name__} is not fitted; call fit(series) before {method}")

    def _identity(self) -> dict[str, Any]:
        params = json.loads(json.dumps(self.get_params(), default=repr))
        return {"version": STATE_VERSION, "forecaster": self.name, "params": params}


def cadence(steps: np.ndarray) -> float:
    """Typical optimizer steps between snapshots: the median gap, 1 for a single snapshot."""
    return float(np.median(np.diff(steps))) if len(steps) > 1 else 1.0


def check_range(forecaster: Forecaster, param: str, low: float, high: float, whole: bool = False) -> None:
    """Raise ConfigError unless the parameter is a number (a whole one if `whole`) in [low, high]."""
    value = getattr(forecaster, param)
    types = (int, np.integer) if whole else (int, float, np.integer, np.floating)
    if not isinstance(value, types) or isinstance(value, bool) or not low <= value <= high:
        kind = "a whole number" if whole else "a number"
        raise ConfigError(f"forecaster {forecaster.name!r}: {param} is {value!r}; expected {kind} in [{low}, {high}]")


def _require_series(series: Any) -> None:
    if not isinstance(series, Series):
        raise ConfigError(f"expected a Series, got {type(series).__name__}; trajectory.series(scorer) makes one")
