"""A budget that changes over the run.

A schedule is a list of stages, each with the share of the run at which it begins and a relative size. Sizes are scaled
so that their mean over the run is 1: whatever its shape, a schedule trains as many vectors times steps as the constant
budget (up to whole vectors and whole steps). Our own definition.
"""

from __future__ import annotations

import json
import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..common.errors import BudgetError, ConfigError, one_of
from ..model.numbering import Numbering
from .budget import budget_vectors

SHAPES: dict[str, tuple[tuple[float, float], ...]] = {
    "constant": ((0, 1),),
    "front-loaded": ((0, 14), (1 / 3, 5), (2 / 3, 1)),
    "grown": ((0, 1), (1 / 3, 5), (2 / 3, 14)),
}
"""Named schedules: (share of the run at which a stage begins, relative size). Front-loaded thirds of 14, 5 and 1 are
2.1, 0.75 and 0.15 times the budget; grown is the same backwards."""

_EXPECTED = (
    f"expected one of {', '.join(SHAPES)}, or stages [share of the run, relative size] as in [[0, 14], [0.3, 5], "
    "[0.6, 1]]: shares rising from 0, below 1, sizes above 0"
)


@dataclass(frozen=True)
class BudgetSchedule:
    """Stages of a run.

    Attributes:
        starts: share of the run at which each begins; rising, the first is 0.
        factors: by what the budget is multiplied in each; their mean over the run is 1.
    """

    starts: tuple[float, ...] = (0.0,)
    factors: tuple[float, ...] = (1.0,)

    @classmethod
    def of(cls, value: str | Sequence[Any] | None) -> BudgetSchedule:
        """The schedule that a setting describes: a name, stages (also as JSON text), or None for a constant budget.

        Raises:
            UnknownNameError: no shape of that name.
            ConfigError: stages that are malformed.
        """
        stages: Any = value or "constant"
        if isinstance(stages, str) and not stages.lstrip().startswith("["):
            stages = SHAPES[one_of("budget_schedule", stages, SHAPES)]
        try:
            stages = json.loads(stages) if isinstance(stages, str) else stages
            starts, sizes = zip(*((float(start), float(size)) for start, size in stages), strict=True)
        except json.JSONDecodeError as error:
            raise ConfigError(f"budget_schedule {value!r} is not JSON ({error}); {_EXPECTED}") from error
        except (TypeError, ValueError) as error:
            raise ConfigError(f"budget_schedule is {value!r}; {_EXPECTED}") from error
        ends = (*starts[1:], 1.0)
        rising = starts[0] == 0 and all(a < b for a, b in zip(starts, ends, strict=True))
        if not rising or not all(0 < size < math.inf for size in sizes):
            raise ConfigError(f"budget_schedule is {value!r}; {_EXPECTED}")
        mean = sum(size * (b - a) for size, a, b in zip(sizes, starts, ends, strict=True))
        return cls(starts, tuple(size / mean for size in sizes) if len(sizes) > 1 else (1.0,))

    @property
    def constant(self) -> bool:
        return len(set(self.factors)) == 1

    @property
    def peak(self) -> float:
        """The largest factor."""
        return max(self.factors)

    def boundaries(self, total_steps: int) -> frozenset[int]:
        """Steps after which another stage begins, within the run."""
        return frozenset(step for step in self._steps(total_steps) if 0 < step < total_steps)

    def vectors(self, table: Numbering, budget: float, step: int, total_steps: int) -> int:
        """Vectors that may be trained after `step` of `total_steps` steps (see `budget_vectors`).

        Raises:
            BudgetError: the stage's budget is above 1, or too small for any component; names the stage.
        """
        return self._vectors(table, budget, bisect_right(self._steps(total_steps), step) - 1)

    def mean_and_peak(self, table: Numbering, budget: float) -> tuple[float, int]:
        """Vectors trained on average over the run, and at most. Raises BudgetError as `vectors` does."""
        rows = [self._vectors(table, budget, stage) for stage in range(len(self.starts))]
        ends = (*self.starts[1:], 1.0)
        return sum(n * (b - a) for n, a, b in zip(rows, self.starts, ends, strict=True)), max(rows)

    def _steps(self, total_steps: int) -> list[int]:
        return [round(start * total_steps) for start in self.starts]

    def _vectors(self, table: Numbering, budget: float, stage: int) -> int:
        try:
            return budget_vectors(table, budget * self.factors[stage])
        except BudgetError as error:
            if self.constant:
                raise
            raise BudgetError(
                f"budget_schedule: the stage that begins at {self.starts[stage]:.3g} of the run has "
                f"{self.factors[stage]:.3g} times the budget {budget}: {error}"
            ) from error
