"""The protocol of a forecaster: scikit-learn's conventions, sktime's verbs.

`pretrain` (past runs, optional), `fit` (this run so far), `predict` (some steps ahead); `update` adds one snapshot. The
public methods validate what goes in and comes out. A subclass writes `_fit` and `_predict`; if it learns from past
runs, also `_pretrain`, `_pretrained_arrays` and `_load_pretrained`. Its `__init__` only stores parameters. The folder
`templates` has three to start from, README.md the steps.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import BaseEstimator, clone
from sklearn.exceptions import NotFittedError

from ..common.errors import CheckpointError, ConfigError, NonFiniteError
from ..common.sealed import load_sealed, save_sealed
from ..trajectory.series import Series

STATE_VERSION = 2
LARGEST_STATE = 2**31
"""Bytes of a state file; 100,000 components x 1,000 snapshots are 400 MB."""


class Forecaster(BaseEstimator, ABC):
    """Base of all forecasters.

    Attributes:
        name: what the forecaster is registered as; "module:Class" until it is.
        needs_pretraining: `fit` is refused before `pretrain`.
        expected_failures: rules of the conformance suite that it cannot keep, each with the reason.
        series_: the `Series` seen so far (after `fit`).
        fallback_: why `predict` returns the last snapshot for now, or None when the forecaster does its own work
            (after `fit`).
    """

    name: ClassVar[str]
    needs_pretraining: ClassVar[bool] = False
    expected_failures: ClassVar[Mapping[str, str]] = {}

    def __init_subclass__(cls, **kwargs: Any):
        super().__init_subclass__(**kwargs)
        if "name" not in vars(cls):
            cls.name = f"{cls.__module__}:{cls.__qualname__}"

    @classmethod
    def learns_from_past(cls) -> bool:
        """Whether `pretrain` does anything."""
        return cls._pretrain is not Forecaster._pretrain

    def pretrain(self, histories: Sequence[Series]) -> Self:
        """Learn from series of past runs, which may be of other models. A forecaster that cannot ignores them.

        Raises:
            ConfigError: a parameter out of range, no history, or one that is not a `Series`.
        """
        self._check_params()
        histories = list(histories)
        if not histories:
            raise ConfigError(f"forecaster {self.name!r}: pretrain got no series; pass at least one recorded run")
        _require_series(*histories)
        self._pretrain(histories)
        return self

    def fit(self, series: Series) -> Self:
        """Learn from this run so far; what was pretrained stays.

        Raises:
            ConfigError: a parameter out of range, `series` is not a `Series`, or pretraining is needed and missing.
        """
        self._check_params()
        _require_series(series)
        if self.needs_pretraining and not self._pretrained_arrays():
            raise ConfigError(f"forecaster {self.name!r} needs past runs; call pretrain(histories) before fit")
        self.fallback_: str | None = None
        self._fit(series)
        self.series_ = series
        return self

    def update(self, step: int, values: np.ndarray) -> Self:
        """Add one snapshot; the result is that of `fit` on the longer series, which it calls unless overridden.

        Args:
            values: float32 [n_components], >= 0; their standard errors count as unknown.

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
        ahead = _whole(horizon)
        values = self.series_.values[:, -1] if self.fallback_ else self._predict(ahead)
        return self._scores(values, horizon)

    def unfitted(self) -> Self:
        """An unfitted copy with the same parameters and pretraining."""
        return clone(self)._load_all_pretrained(self._pretrained_arrays())

    def state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """(arrays, JSON): what was pretrained and the series seen; `load_state` repeats the (deterministic) fit."""
        arrays = {f"pretrained.{key}": array for key, array in self._pretrained_arrays().items()}
        says = {"pretrained": bool(arrays), "fitted": hasattr(self, "series_")}
        if says["fitted"]:
            arrays |= {f"series.{key}": array for key, array in self.series_.arrays().items()}
        return arrays, self._identity() | says

    def load_state(self, arrays: Mapping[str, np.ndarray], data: Mapping[str, Any]) -> Self:
        """Take over a state of the same forecaster with the same parameters; on an error nothing has changed.

        The name in a state is only compared with this forecaster's: nothing is imported or built from it.

        Raises:
            CheckpointError: another forecaster or other parameters, or arrays that are missing, unknown or damaged.
        """
        expected, found = self._identity(), dict(data) if isinstance(data, Mapping) else {}
        says = {part: found.get(part) for part in ("pretrained", "fitted")}
        if found != expected | says or not all(isinstance(value, bool) for value in says.values()):
            raise CheckpointError(
                f"forecaster state is of {found!s:.500}; expected {expected}, 'pretrained' and 'fitted': build the "
                "forecaster with the same name and parameters as the one that was saved"
            )
        parts: dict[str, dict[str, np.ndarray]] = {"pretrained": {}, "series": {}}
        for key, array in arrays.items():
            part, _, rest = str(key).partition(".")
            if part not in parts or not isinstance(array, np.ndarray) or array.dtype.hasobject:
                raise CheckpointError(
                    f"forecaster state has an unknown entry {key!r:.200} or one that is not a plain array"
                )
            parts[part][rest] = array
        if says != {"pretrained": bool(parts["pretrained"]), "fitted": bool(parts["series"])}:
            raise CheckpointError(f"forecaster state says {says}, but its arrays are {sorted(arrays)!s:.500}")
        fresh = clone(self)
        try:
            fresh._load_all_pretrained(parts["pretrained"])
            if parts["series"]:
                fresh.fit(Series.from_arrays(parts["series"]))
        except CheckpointError:
            raise
        except Exception as error:  # whatever a damaged array does to a regressor, the state is at fault
            raise CheckpointError(f"forecaster state is damaged: {error!s:.500}") from error
        self.__dict__ = fresh.__dict__
        return self

    def save(self, path: str | Path) -> None:
        """Write `state` to one safetensors file, its JSON part in the header: the whole file or nothing."""
        arrays, data = self.state()
        save_sealed(path, arrays, {"state": json.dumps(data, allow_nan=False)})

    def load(self, path: str | Path) -> Self:
        """Take over what `save` wrote, as `load_state` does.

        Raises:
            CheckpointError: no such file, not safetensors, above LARGEST_STATE, or refused by `load_state`.
        """
        size = Path(path).stat().st_size if Path(path).is_file() else 0
        if size > LARGEST_STATE:
            raise CheckpointError(f"{path} has {size:,} bytes; a forecaster state has at most {LARGEST_STATE:,}")
        try:
            arrays, header = load_sealed(path)
            data = json.loads(header["state"])
        except Exception as error:  # safetensors, JSON and the file system each have their own
            raise CheckpointError(f"{path} is not a forecaster state: {error!r:.300}") from error
        return self.load_state(arrays, data)

    def _check_params(self) -> None:
        """Raise ConfigError for parameters out of range."""

    def _pretrain(self, histories: list[Series]) -> None:
        """Learn from past runs into attributes that `_pretrained_arrays` saves."""

    @abstractmethod
    def _fit(self, series: Series) -> None:
        """Learn from this run; deterministic, given parameters and pretraining."""

    @abstractmethod
    def _predict(self, horizon: int) -> np.ndarray:
        """Scores [n_components] `horizon` >= 1 steps after the last of `series_`; negative ones are set to 0 later."""

    def _pretrained_arrays(self) -> dict[str, np.ndarray]:
        """What `_pretrain` learned; empty if there was no pretraining."""
        return {}

    def _load_pretrained(self, arrays: dict[str, np.ndarray]) -> None:
        """Inverse of `_pretrained_arrays`, which has some: pop the known ones (`saved_array`), leave others."""

    def _load_all_pretrained(self, arrays: Mapping[str, np.ndarray]) -> Self:
        """`_load_pretrained`, and CheckpointError for an array that is left over."""
        if left := dict(arrays):
            self._load_pretrained(left)
        if left:
            raise CheckpointError(f"forecaster state has unknown arrays {sorted(left)!s:.500} of {self.name!r}")
        return self

    def _check_fitted(self, method: str) -> None:
        if not hasattr(self, "series_"):
            raise NotFittedError(f"this {type(self).__name__} is not fitted; call fit(series) before {method}")

    def _scores(self, values: Any, horizon: int) -> np.ndarray:
        """What a subclass predicted, checked, as a float32 copy >= 0."""
        values, shape = np.asarray(values), (len(self.series_),)
        if values.shape != shape:
            raise ConfigError(f"forecaster {self.name!r} predicted shape {values.shape}; expected {shape}")
        if not np.isfinite(values).all():
            raise NonFiniteError(f"forecaster {self.name!r} predicted NaN or infinite scores at horizon {horizon}")
        return np.clip(values, 0, np.finfo(np.float32).max).astype(np.float32)

    def _identity(self) -> dict[str, Any]:
        params = json.loads(json.dumps(self.get_params(deep=False), default=_plain))
        return {"version": STATE_VERSION, "forecaster": self.name, "params": params}


def check_range(forecaster: Forecaster, param: str, low: float, high: float, whole: bool = False) -> None:
    """Raise ConfigError unless the parameter is a number (a whole one if `whole`) in [low, high]."""
    value = getattr(forecaster, param)
    types = (int, np.integer) if whole else (int, float, np.integer, np.floating)
    if not isinstance(value, types) or isinstance(value, bool) or not low <= value <= high:
        kind = "a whole number" if whole else "a number"
        raise ConfigError(f"forecaster {forecaster.name!r}: {param} is {value!r}; expected {kind} in [{low}, {high}]")


def saved_array(
    arrays: dict[str, np.ndarray], key: str, dtype: type, shape: tuple[int, ...], low: float, high: float
) -> np.ndarray:
    """Pop an array of a saved state. Raises CheckpointError unless it has that dtype and shape, within [low, high]."""
    array = arrays.pop(key, np.zeros(0))
    if array.dtype != dtype or array.shape != shape or not ((array >= low) & (array <= high)).all():
        raise CheckpointError(
            f"forecaster state: {key!r} is {array.dtype} {array.shape}; expected {np.dtype(dtype)} {shape}, each in "
            f"[{low:g}, {high:g}]"
        )
    return array


def _whole(horizon: Any) -> int:
    if not isinstance(horizon, int | np.integer) or isinstance(horizon, bool) or horizon < 1:
        raise ConfigError(f"horizon is {horizon!r}; expected a whole number of optimizer steps, at least 1")
    return int(horizon)


def _plain(value: Any) -> Any:
    """A parameter that JSON lacks: estimators by class and parameters, functions and classes by module and name."""
    if isinstance(value, BaseEstimator):
        return {"class": _plain(type(value)), "params": value.get_params(deep=False)}
    if hasattr(value, "__qualname__"):
        return f"{value.__module__}:{value.__qualname__}"
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    text = repr(value)
    if " at 0x" in text:
        raise ConfigError(f"parameter {text} has no name that a saved state could give it; use a function or a class")
    return text


def _require_series(*found: Any) -> None:
    for series in found:
        if not isinstance(series, Series):
            raise ConfigError(f"expected a Series, got {type(series).__name__}; trajectory.series(scorer) makes one")
