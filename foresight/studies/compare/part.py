"""The records of a comparison at one budget, by arm: what its summary, its tests and its figures are made from."""

from __future__ import annotations

from collections.abc import Sequence

from .baseline import ArmValues
from .broken import Broken, broken
from .measures import Measure, by_unit
from .results import Record
from .settings import CompareConfig
from .tuning import tune


class Part:
    """The records of one budget, by arm. Arms without a mask are the same at every budget.

    Attributes:
        points: scored runs at all settings.
        scored: those at the tuned settings; whole: those of them that are not broken.
        lost: broken runs, and arms that could not be scored at all; damaged: their arms.
    """

    def __init__(self, records: Sequence[Record], config: CompareConfig, budget: float):
        self.config, self.arms, self.budget = config, config.chosen, budget
        of = {
            name: [r for r in records if r.cell.arm == name and (arm.trains_everything or r.cell.budget == budget)]
            for name, arm in self.arms.items()
        }
        self.tuning = {name: tune(r for r in found if r.cell.stage == "tune") for name, found in of.items()}
        self.points = {name: [r for r in found if r.cell.stage == "score"] for name, found in of.items()}
        self.scored = {name: [r for r in found if self._is_tuned(r)] for name, found in self.points.items()}
        lost = broken([r for found in self.scored.values() for r in found])
        self.whole = {name: [r for r in found if r.key not in lost] for name, found in self.scored.items()}
        self.lost = [*lost.values(), *self._never_scored()]
        self.damaged = {run.arm for run in self.lost}

    def values(self, measure: Measure) -> ArmValues:
        """Of the whole runs."""
        return {name: by_unit(found, measure) for name, found in self.whole.items()}

    def _is_tuned(self, record: Record) -> bool:
        tuned = self.tuning[record.cell.arm]
        if not self.config.frontier or tuned.learning_rate is None:
            return True
        return (record.cell.learning_rate, record.cell.memory) == (tuned.learning_rate, tuned.memory)

    def _never_scored(self) -> list[Broken]:
        words = "every setting that it was tuned over has a failed run, so it was never scored"
        return [
            Broken(name, "failed", f"tune {name}, budget {self.budget:g}", words)
            for name, tuned in self.tuning.items()
            if tuned.areas and tuned.learning_rate is None and not self.scored[name]
        ]
