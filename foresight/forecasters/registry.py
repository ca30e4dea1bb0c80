"""Forecasters by name: the built-in ones, those registered by a decorator, those of installed packages.

A package offers its own under the entry-point group `foresight.forecasters`; it is imported only when its name is asked
for. A built-in name cannot be taken over.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any, TypeVar

from ..errors import ConfigError, UnknownNameError, did_you_mean
from .base import Forecaster

ENTRY_POINT_GROUP = "foresight.forecasters"
BUILT_IN = ("boosting", "drift", "mean", "persistence", "ridge", "smoothing")
"""Names of the forecasters in this folder; each is registered by the module of its name."""

_registered: dict[str, type[Forecaster]] = {}
F = TypeVar("F", bound=type[Forecaster])


def register(name: str) -> Callable[[F], F]:
    """Class decorator: make a `Forecaster` available under `name`. Raises ConfigError if the name is taken."""

    def decorate(cls: F) -> F:
        taken = _registered.get(name)
        if not (isinstance(cls, type) and issubclass(cls, Forecaster)):
            raise ConfigError(f"forecaster {name!r}: {cls!r} is not a subclass of foresight.forecasters.Forecaster")
        ours = cls.__module__ == f"{__package__}.{name}"
        if (taken is not None and taken is not cls) or (name in BUILT_IN and not ours):
            raise ConfigError(f"forecaster {name!r} exists already; register {cls.__name__} under another name")
        cls.name = name
        _registered[name] = cls
        return cls

    return decorate


def forecaster_names() -> tuple[str, ...]:
    """Every name that `make_forecaster` knows, sorted; imports none of them."""
    return tuple(sorted({*BUILT_IN, *_registered, *_installed()}))


def make_forecaster(name: str, **params: Any) -> Forecaster:
    """Build a forecaster.

    Raises:
        UnknownNameError: no forecaster of that name; the message offers the closest.
        ConfigError: a parameter it does not have, or an entry point that is not a forecaster.
    """
    cls = _find(name)
    known = cls._get_param_names()
    for param in params:
        if param not in known:
            raise ConfigError(
                f"forecaster {name!r} has no parameter {param!r}{did_you_mean(param, known)}; "
                f"it has: {', '.join(known) or 'none'}"
            )
    forecaster = cls(**params)
    forecaster._check_params()
    return forecaster


def _find(name: str) -> type[Forecaster]:
    if name in BUILT_IN:
        import_module(f".{name}", __package__)
    elif name not in _registered and name in _installed():
        register(name)(_installed()[name].load())
    if name not in _registered:
        raise UnknownNameError("forecaster", name, forecaster_names())
    return _registered[name]


def _installed() -> dict[str, Any]:
    return {point.name: point for point in entry_points(group=ENTRY_POINT_GROUP)}
