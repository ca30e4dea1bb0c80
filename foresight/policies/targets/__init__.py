"""What a forecast is of: what a trajectory must record for it, what is forecast, and how that ranks components.

One target a file. `make_target(name, **params)` builds one; to write one, subclass `Target`.
"""

from .registry import make_target, register, target_names
from .target import Target

__all__ = ["Target", "make_target", "register", "target_names"]
