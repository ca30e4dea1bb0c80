"""Forecasters: which components will be critical some steps ahead, from the scores so far.

`make_forecaster(name, **params)` builds one of the built-in ones or a plug-in of the entry-point group
`foresight.forecasters`; `fit(series)`, then `predict(horizon)`. README.md shows how to write one. A forecaster and its
libraries are loaded when it is asked for, and only that one; `REGISTRY.check_name(name)` checks a name without any.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..common.errors import known_params
from ..common.plugins import Registry

if TYPE_CHECKING:
    from .forecaster import Forecaster as Forecaster
    from .forecaster import check_range as check_range

BUILT_IN = {
    "boosting": "regressions", "damped_drift": "trend", "drift": "trend", "gaussian_process": "regressions",
    "local_level": "local_level", "mean": "simple", "persistence": "simple", "recurrent": "recurrent",
    "ridge": "regressions", "smoothing": "simple", "stacking": "stacking",
}  # fmt: skip
"""Names of the built-in forecasters -> the modules that define them."""
REMOVED = {
    "conformal": "the forecaster that it wrapped",
    "elastic_net": "'ridge' (or from_regressor(ElasticNet()))",
    "forest": "'boosting' (or from_regressor(RandomForestRegressor()))",
    "ranking": "'ridge'",
    "linear_weights": "'taylor' or 'displaced'",
    "logarithmic_weights": "'taylor' or 'displaced'",
}
"""Forecasters of earlier versions, none of which won anything -> what to use instead."""
FROM_WEIGHTS = ("taylor", "displaced")
"""Forecasts from weights, which are no forecasters of scores: `single_weights.extrapolate` makes them."""
DEFAULT = "stacking"
"""Weighs forecasts by their proven skill and is persistence while none has any: on the shipped corpus, where nothing
beats persistence, the benchmark recommends that (README.md)."""
SHIPPED_STATE = Path(__file__).parents[1] / "model" / "shipped" / f"{DEFAULT}.safetensors"
"""What `DEFAULT` learned from the shipped corpus; `eval.shipped_corpus` makes it."""
REGISTRY: Registry[Forecaster] = Registry(
    "forecaster",
    "forecaster:Forecaster",
    "foresight.forecasters",
    BUILT_IN,
    hint=" (from_function and from_regressor make one)",
    removed=REMOVED,
)
register = REGISTRY.register
"""Class decorator: make a `Forecaster` available under a name. Raises ConfigError if the name is taken."""
forecaster_names = REGISTRY.names
"""Every name that `make_forecaster` knows, sorted; imports none of them."""


def make_forecaster(name: str, **params: Any) -> Forecaster:
    """Build a forecaster.

    Args:
        name: a registered name, or `module:Class`, or `module:object` for a forecaster that a module has built.

    Raises:
        UnknownNameError: no forecaster of that name; the message offers the closest.
        ConfigError: a forecaster that was removed, a parameter that it lacks, a value out of range, or a module or
            entry point without a forecaster.
    """
    from sklearn.base import clone

    found = REGISTRY.find(name)
    known_params(REGISTRY.what, name, params, found._get_param_names())
    forecaster = found(**params) if isinstance(found, type) else clone(found).set_params(**params)
    forecaster._check_params()
    return forecaster


def experienced(name: str, **params: Any) -> Forecaster:
    """`make_forecaster`; the default forecaster with its default parameters also gets the pretraining that ships.

    Raises:
        CheckpointError: the shipped state is damaged; and as `make_forecaster`.
    """
    forecaster = make_forecaster(name, **params)
    return forecaster if name != DEFAULT or params else forecaster.load(SHIPPED_STATE)


_HOME = {"Forecaster": "forecaster", "check_range": "forecaster", "from_function": "wrap", "from_regressor": "wrap"}

__all__ = [*_HOME, "forecaster_names", "make_forecaster", "register"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOME[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted(__all__)
