"""foresight: fine-tune causal language models with predictive masks.

Everything public is imported on first use, so that ``import foresight`` and the command line start at once.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .bank import Bank as Bank
    from .bank.delta import apply_delta as apply_delta
    from .common.errors import ForesightError as ForesightError
    from .masks.masks import Mask as Mask
    from .masks.schedule import MaskSchedule as MaskSchedule
    from .model.components import component_table as component_table
    from .training.config import ForesightConfig as ForesightConfig
    from .training.preferences import ForesightDPOConfig as ForesightDPOConfig
    from .training.preferences import ForesightDPOTrainer as ForesightDPOTrainer
    from .training.trainer import ForesightTrainer as ForesightTrainer
    from .trajectory.trajectory import Trajectory as Trajectory

__version__ = "0.1.0"

_HOME = {
    "ForesightConfig": "training.config",
    "ForesightTrainer": "training.trainer",
    "ForesightDPOConfig": "training.preferences",
    "ForesightDPOTrainer": "training.preferences",
    "apply_delta": "bank.delta",
    "component_table": "model.components",
    "Bank": "bank",
    "Mask": "masks.masks",
    "MaskSchedule": "masks.schedule",
    "Trajectory": "trajectory.trajectory",
    "ForesightError": "common.errors",
}

__all__ = ["__version__", *_HOME]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'foresight' has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted(__all__)
