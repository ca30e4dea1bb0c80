"""Targets by name: the built-in ones, and plug-ins (see foresight.common.plugins) of the group `foresight.targets`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from ...common.plugins import Registry

if TYPE_CHECKING:
    from .target import Target

DEFAULT = "circuit"
BUILT_IN = (DEFAULT, "damage", "movement", "utility")
"""Names of the targets in this folder; each is registered by the module of its name."""
REGISTRY: Registry[Target] = Registry(
    "target", "target:Target", "foresight.policies.targets", BUILT_IN, group="foresight.targets"
)
T = TypeVar("T", bound="type[Target]")


def register(name: str) -> Callable[[T], T]:
    """Class decorator: make a `Target` available under `name`. Raises ConfigError if the name is taken."""
    return REGISTRY.register(name)


def target_names() -> tuple[str, ...]:
    """Every name that `make_target` knows, sorted; imports none of them."""
    return REGISTRY.names()


def make_target(name: str, **params: Any) -> Target:
    """Build a target.

    Args:
        name: a registered name, or `module:Class`, or `module:object` for a target that a module has built.

    Raises:
        UnknownNameError: no target of that name; the message offers the closest.
        ConfigError: a parameter it does not have, or a module or entry point without a target.
    """
    return REGISTRY.build(name, **params)
