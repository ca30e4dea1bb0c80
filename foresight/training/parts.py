"""Parts of a run that only some settings ask for: limits, scouts, retained rows, replay, calibration, DeepSpeed.

Each is loaded by name, so a run without them neither imports nor has to be read with them.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from ..masks.selection import Limit


def part(path: str) -> Any:
    """What `path`, a module of the package and a name in it such as ``training.scout.scout``, stands for."""
    module, _, name = path.rpartition(".")
    return getattr(import_module(f"foresight.{module}"), name)


class Unlimited:
    """What a run's masks may cost where the setting `limits` is not given. `limits.StepLimits` is the other case."""

    rows: Any = None
    """Prepared training rows to time passes on; set before `time`."""

    def of_masks(self) -> tuple[Limit, ...]:
        """What every mask of the run has to keep, as far as it is known by now."""
        return ()

    def check(self, n_vectors: int) -> None:
        """Raise BudgetError if no mask of so many vectors keeps the limits that are known already."""

    def time(self, run: Any) -> None:
        """Time passes of the model, where a limit is in seconds. Collective."""

    def state(self) -> dict[str, float] | None:
        """What a resumed run has to know to choose the same masks, as JSON."""
        return None

    def load_state(self, state: dict[str, float] | None) -> None:
        """Inverse of `state`."""
