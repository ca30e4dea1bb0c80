"""Forecasters: which components will be critical some steps ahead, from the scores so far.

`make_forecaster(name, **params)` builds one; `fit(series)`, then `predict(horizon)`. README.md shows how to write one.
Everything public is imported on first use, so that checking a name costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .forecaster import Forecaster as Forecaster
    from .forecaster import check_range as check_range
    from .registry import forecaster_names as forecaster_names
    from .registry import make_forecaster as make_forecaster
    from .registry import register as register

_HOME = {
    "Forecaster": "forecaster",
    "check_range": "forecaster",
    "forecaster_names": "registry",
    "from_function": "wrap",
    "from_regressor": "wrap",
    "make_forecaster": "registry",
    "register": "registry",
}

__all__ = [*_HOME]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOME[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted(__all__)
