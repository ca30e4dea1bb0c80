"""Localizers by name: the built-in ones, and plug-ins of the entry-point group `foresight.evidence.localizers`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from ....common.plugins import Registry
from .base import Localizer

BUILT_IN = ("attribution", "forecast", "given", "probes")
"""Names of the localizers in this folder; each is registered by the module of its name."""
REGISTRY = Registry(
    "localizer",
    Localizer,
    "foresight.studies.evidence.localizers",
    BUILT_IN,
    group="foresight.evidence.localizers",
)
T = TypeVar("T", bound=type[Localizer])


def register(name: str) -> Callable[[T], T]:
    """Class decorator: make a `Localizer` available under `name`. Raises ConfigError if the name is taken."""
    return REGISTRY.register(name)  # type: ignore[return-value]


def localizer_names() -> tuple[str, ...]:
    """Every name that `make_localizer` knows, sorted; imports none of them."""
    return REGISTRY.names()


def make_localizer(name: str, **params: Any) -> Localizer:
    """Build a localizer.

    Args:
        name: a registered name, or `module:Class`.

    Raises:
        UnknownNameError: no localizer of that name; the message offers the closest.
        ConfigError: a parameter it does not have, or a module or entry point without a localizer.
    """
    return REGISTRY.build(name, **params)
