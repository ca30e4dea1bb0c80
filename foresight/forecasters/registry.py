"""Forecasters by name: the built-in ones, and plug-ins of the entry-point group `foresight.forecasters`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from sklearn.base import clone

from ..common.plugins import Registry
from .base import Forecaster

BUILT_IN = tuple(
    "boosting conformal damped_drift drift elastic_net forest gaussian_process local_level mean persistence ranking "
    "recurrent ridge smoothing stacking".split()
)
"""Names of the forecasters in this folder; each is registered by the module of its name."""
REGISTRY = Registry(
    "forecaster",
    Forecaster,  # type: ignore[type-abstract]
    "foresight.forecasters",
    BUILT_IN,
    " (from_function and from_regressor make one)",
)
F = TypeVar("F", bound=type[Forecaster])


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
        ConfigError: a parameter it does not have, or a module or entry point without a forecaster.
    """
    found = find_forecaster(name)
    REGISTRY.check_params(name, params, found._get_param_names())
    forecaster = found(**params) if isinstance(found, type) else clone(found).set_params(**params)
    forecaster._check_params()
    return forecaster


def find_forecaster(name: str) -> type[Forecaster] | Forecaster:
    """The class behind a name, or the object that `module:object` or an entry point names.

    Raises:
        UnknownNameError, ConfigError: as `make_forecaster`.
    """
    return REGISTRY.find(name)


def origin(name: str) -> str:
    """Where a forecaster comes from: "built-in", the package that offers it, or its module. Imports nothing."""
    return REGISTRY.origin(name)
