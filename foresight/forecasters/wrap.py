"""Forecasters in one line: from a function, from any scikit-learn regressor."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, clone

from ..common.errors import ConfigError
from ..trajectory.series import Series
from .forecaster import Forecaster
from .regressions import PooledForecaster


class FunctionForecaster(Forecaster):
    """A forecaster that asks `function(series, horizon)` for the scores [n_components] `horizon` steps ahead.

    The function gets the series so far, whose arrays are read-only, and is called for every prediction. A saved state
    holds the series and the function's module and name, not its code: load it into a forecaster made from the same
    function.
    """

    def __init__(self, function: Callable[[Series, int], np.ndarray]):
        self.function = function

    def _check_params(self) -> None:
        if not callable(self.function):
            raise ConfigError(f"from_function got {self.function!r}; expected a function of (series, horizon)")

    def _fit(self, series: Series) -> None:
        """Nothing to learn: the function sees the series when it predicts."""

    def _predict(self, horizon: int) -> np.ndarray:
        return self.function(self.series_, horizon)


class RegressorForecaster(PooledForecaster):
    """A forecaster that predicts the change of every component with a scikit-learn regressor, pooled over components.

    The regressor sees the features of features.py and log(1 + horizon in cadences), and predicts the change of z; it
    learns from windows within the run and within past runs. Every fit takes a fresh clone, whose `random_state`
    parameters (also those of the steps of a pipeline) are set to 0 where they are None.

    Not every fitted regressor can be saved as arrays. A saved state therefore holds what it was fitted on (the series,
    and at most `max_rows` windows of past runs), and loading fits it again. The result is equal to the last bit if the
    regressor is deterministic for a given `random_state` and its library has the same version.

    Args:
        max_rows, min_snapshots: as in `PooledForecaster`.
    """

    def __init__(self, regressor: BaseEstimator, max_rows: int = 50_000, min_snapshots: int = 4):
        self.regressor = regressor
        self.max_rows = max_rows
        self.min_snapshots = min_snapshots

    def _check_params(self) -> None:
        super()._check_params()
        found = self.regressor
        if isinstance(found, type) or not all(hasattr(found, name) for name in ("fit", "predict", "get_params")):
            raise ConfigError(f"from_regressor got {found!r}; expected a scikit-learn regressor, for example Lasso()")

    def _regressor(self, n_rows: int) -> Any:
        fresh = clone(self.regressor)
        seeds = {k: 0 for k, v in fresh.get_params().items() if k.rpartition("__")[2] == "random_state" and v is None}
        return fresh.set_params(**seeds)


from_function = FunctionForecaster
from_regressor = RegressorForecaster
