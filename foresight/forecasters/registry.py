"""Forecasters by name: the built-in ones, those registered by a decorator, those of installed packages, `module:Class`.

A package offers its own under the entry-point group `foresight.forecasters`; it is imported only when its name is asked
for. A built-in name cannot be taken over. `module:Class` imports that module, and is meant for what users type
themselves: names read from files of a run are compared, never looked up.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from operator import attrgetter
from pathlib import Path
from typing import Any, TypeVar

from sklearn.base import clone

from ..errors import ConfigError, UnknownNameError, did_you_mean
from .base import Forecaster

ENTRY_POINT_GROUP = "foresight.forecasters"
BUILT_IN = tuple(
    "boosting conformal damped_drift drift elastic_net forest gaussian_process local_level mean persistence ranking "
    "recurrent ridge smoothing stacking".split()
)
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

    Args:
        name: a registered name, or `module:Class`, or `module:object` for a forecaster that a module has built.

    Raises:
        UnknownNameError: no forecaster of that name; the message offers the closest.
        ConfigError: a parameter it does not have, or a module or entry point without a forecaster.
    """
    found = find_forecaster(name)
    known = found._get_param_names()
    for param in params:
        if param not in known:
            raise ConfigError(
                f"forecaster {name!r} has no parameter {param!r}{did_you_mean(param, known)}; "
                f"it has: {', '.join(known) or 'none'}"
            )
    forecaster = found(**params) if isinstance(found, type) else clone(found).set_params(**params)
    forecaster._check_params()
    return forecaster


def find_forecaster(name: str) -> type[Forecaster] | Forecaster:
    """The class behind a name, or the object that `module:object` or an entry point names.

    Raises:
        UnknownNameError, ConfigError: as `make_forecaster`.
    """
    if ":" in name:
        return _from_path(name)
    if name in BUILT_IN:
        import_module(f".{name}", __package__)
    elif name not in _registered and name in _installed():
        return _from_package(name)
    if name not in _registered:
        raise UnknownNameError("forecaster", name, forecaster_names())
    return _registered[name]


def origin(name: str) -> str:
    """Where a forecaster comes from: "built-in", the package that offers it, or its module. Imports nothing."""
    if name in BUILT_IN:
        return "built-in"
    if name in _registered:
        return _registered[name].__module__
    if name in _installed():
        return " and ".join(_package(point) for point in _installed()[name])
    return name.partition(":")[0]


def _from_path(path: str) -> type[Forecaster] | Forecaster:
    if not re.fullmatch(r"\w+(\.\w+)*:\w+(\.\w+)*", path):
        raise ConfigError(f"forecaster {path!r} cannot be read; expected module:Class, say my_package.mine:Mine")
    module, _, attribute = path.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)  # last, so that nothing installed is shadowed
    try:
        loaded = import_module(module)
    except Exception as error:  # a module may fail in any way
        raise ConfigError(f"forecaster {path!r}: importing {module!r} failed: {error!r}") from error
    try:
        found = attrgetter(attribute)(loaded)
    except AttributeError as error:
        hint = did_you_mean(attribute, vars(loaded))
        raise ConfigError(f"forecaster {path!r}: module {module!r} has no {attribute!r}{hint}") from error
    return _require_forecaster(path, found)


def _from_package(name: str) -> type[Forecaster] | Forecaster:
    points = _installed()[name]
    if len(points) > 1:
        raise ConfigError(f"forecaster {name!r} is offered by {origin(name)}; uninstall one of them")
    try:
        found = points[0].load()
    except Exception as error:  # somebody else's package may fail in any way
        raise ConfigError(f"forecaster {name!r} of {origin(name)} cannot be imported: {error!r}") from error
    found = _require_forecaster(name, found)
    return register(name)(found) if isinstance(found, type) else found


def _require_forecaster(name: str, found: Any) -> type[Forecaster] | Forecaster:
    if isinstance(found, Forecaster) or (isinstance(found, type) and issubclass(found, Forecaster)):
        return found
    raise ConfigError(
        f"forecaster {name!r} is {found!r:.200}; expected a subclass of foresight.forecasters.Forecaster or an "
        "object of one (from_function and from_regressor make one)"
    )


def _installed() -> dict[str, list[EntryPoint]]:
    points: dict[str, list[EntryPoint]] = {}
    for point in entry_points(group=ENTRY_POINT_GROUP):
        points.setdefault(point.name, []).append(point)
    return points


def _package(point: EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist else point.value
