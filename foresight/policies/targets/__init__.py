"""What a forecast is of: what a trajectory must record for it, what is forecast, and how that ranks components.

`make_target(name, **params)` builds one: a built-in one, or a plug-in of the entry-point group `foresight.targets`. To
write one, subclass `Target`. Checking a name imports no target, and nothing heavy.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ...common.plugins import Registry

if TYPE_CHECKING:
    from .target import Target as Target

BUILT_IN = {"circuit": "scores", "damage": "damage", "movement": "scores", "utility": "scores"}
"""Names of the targets in this folder -> the modules that define them."""
REGISTRY: Registry[Target] = Registry("target", "target:Target", __name__, BUILT_IN, group="foresight.targets")
register = REGISTRY.register
"""Class decorator: make a `Target` available under a name. Raises ConfigError if the name is taken."""
target_names = REGISTRY.names
"""Every name that `make_target` knows, sorted; imports none of them."""
make_target = REGISTRY.build
"""Build a target from its name and parameters.

The name is a registered one, or `module:Class`, or `module:object` for a target that a module has built.

Raises:
    UnknownNameError: no target of that name; the message offers the closest.
    ConfigError: a parameter it does not have, or a module or entry point without a target.
"""

__all__ = ["Target", "make_target", "register", "target_names"]


def __getattr__(name: str) -> Any:
    if name != "Target":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return import_module(".target", __name__).Target
