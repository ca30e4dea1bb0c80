"""What a forecast is of: what a trajectory must record for it, what is forecast, and how that ranks components.

One target a file. `make_target(name, **params)` builds one; to write one, subclass `Target`. Checking a name imports no
target, and nothing heavy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .registry import make_target, register, target_names

if TYPE_CHECKING:
    from .target import Target

__all__ = ["Target", "make_target", "register", "target_names"]


def __getattr__(name: str) -> Any:
    if name != "Target":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from .target import Target

    return Target
