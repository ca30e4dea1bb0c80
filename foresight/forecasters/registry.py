"""Forecasters by name: the built-in ones, and plug-ins of the entry-point group `foresight.forecasters`.

Light to import: a forecaster and its libraries are loaded when it is asked for, and only that one.
`REGISTRY.check_name(name)` checks a name without loading any.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ..common.plugins import Registry

if TYPE_CHECKING:
    from .forecaster import Forecaster

BUILT_IN = {
    "boosting": "regressions", "damped_drift": "trend", "drift": "trend", "gaussian_process": "regressions",
    "local_level": "local_level", "mean": "simple", "persistence": "simple", "recurrent": "recurrent",
    "ridge": "regressions", "smoothing": "simple", "stacking": "stacking",
}  # fmt: skip
"""Names of the built-in forecasters -> the modules that define them."""
REMOVED = {
    "conformal": "the forecaster that it wrapped (foresight.forecasters.templates.full shows quantiles)",
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
F = TypeVar("F", bound="type[Forecaster]")


def register(name: str) -> Callable[[F], F]:
    """Class decorator: make a `Forecaster` available under `name`. Raises ConfigError if the name is taken."""
    return REGISTRY.register(name)  # type: ignore[return-value]


def forecaster_names() -> tuple[str, ...]:
    """Every name that `make_forecaster` knows, sorted; imports none of them."""
    return REGISTRY.names()


def make_forecaster(name: str, **params: Any) -> Forecaster:
    """Build a forecaster.

    Args:
        name: a registered name, or `module:Class`, or `module:object` for a forecaster that a module has built.

    Raises:
        UnknownNameError: no forecaster of that name; the message offers the closest.
        ConfigError: a forecaster that was removed, a parameter that it lacks, a value out of range, or a module or
            entry point without a forecaster.
    """
    found = find_forecaster(name)
    REGISTRY.check_params(name, params, found._get_param_names())
    if isinstance(found, type):
        forecaster = found(**params)
    else:
        from sklearn.base import clone

        forecaster = clone(found).set_params(**params)
    forecaster._check_params()
    return forecaster


def experienced(name: str, **params: Any) -> Forecaster:
    """`make_forecaster`; the default forecaster with its default parameters also gets the pretraining that ships.

    Raises:
        CheckpointError: the shipped state is damaged; and as `make_forecaster`.
    """
    forecaster = make_forecaster(name, **params)
    return forecaster if name != DEFAULT or params else forecaster.load(SHIPPED_STATE)


def find_forecaster(name: str) -> type[Forecaster] | Forecaster:
    """The class behind a name, or the object that `module:object` or an entry point names.

    Raises:
        UnknownNameError, ConfigError: as `make_forecaster`.
    """
    return REGISTRY.find(name)
