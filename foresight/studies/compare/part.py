"""The runs of a comparison at one budget: how each arm was tuned, and which of its runs count.

Every arm is tuned over the same learning rates and optimizer memories on the same unscored tasks, and the best rate on
those is taken. Of memories whose best rates cannot be told apart by one run per setting (within `MARGIN`) the first
named is taken, so that arms differ in memory only for a reason.

Broken runs say nothing about their arm, so they are listed and not averaged. A run is broken if it failed; if it
diverged without an error (the target loss ended a quarter higher than it began, and by more than runs differ by chance;
a smaller rise is a bad run, which is averaged); or if it did nothing (no parameter was trained, or the losses of the
whole curve agree to the bit). The definitions are this project's own.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from statistics import median_low
from typing import Literal

import numpy as np

from .baseline import ArmValues
from .measures import MEASURES, Measure, by_unit, grouped
from .results import Record
from .settings import CompareConfig

How = Literal["failed", "diverged", "idle"]
GROWTH, TIMES = 1.25, 2
"""How far above its start the loss of a diverged run ends: this many times the start, and standard deviations of seeds
above it."""
MARGIN = 0.05
"""Difference in log-loss area below which two memories, each at its best rate, count as equally good."""


@dataclass(frozen=True)
class Tuned:
    """How the learning rate and optimizer memory of an arm were chosen, at one budget.

    Attributes:
        learning_rate, memory: the chosen ones; None if every setting has a failed run.
        areas: memory -> learning rate -> log-loss area, averaged over base models, tuning tasks and draws; None if a
            run failed.
        at_edge: whether the rate is the smallest or largest of the grid, so that a better one may lie outside.
    """

    learning_rate: float | None
    memory: str | None
    areas: dict[str, dict[float, float | None]]
    at_edge: bool


def tune(records: Iterable[Record]) -> Tuned:
    """Choose for one arm at one budget from its tuning runs; the order of the records is that of the memories."""
    areas: dict[str, dict[float, float | None]] = {}
    for memory, of in grouped((record.cell.memory, record) for record in records).items():
        rates = grouped((r.cell.learning_rate, MEASURES["log_loss_area"].read(r)) for r in of)
        areas[memory] = {
            rate: None if None in found else float(np.mean(np.array(found, float)))
            for rate, found in sorted(rates.items())
        }
    usable = {memory: [(area, rate) for rate, area in of.items() if area is not None] for memory, of in areas.items()}
    best = {memory: min(found) for memory, found in usable.items() if found}
    if not best:
        return Tuned(None, None, areas, False)
    lowest, _ = min(best.values())
    memory, rate = next((memory, rate) for memory, (area, rate) in best.items() if area <= lowest + MARGIN)
    return Tuned(rate, memory, areas, len(areas[memory]) > 1 and rate in (min(areas[memory]), max(areas[memory])))


@dataclass(frozen=True)
class Broken:
    """A run that is in no average, and why. `run` is its label."""

    arm: str
    how: How
    run: str
    words: str


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
        words = "every setting that it was tuned over has a failed run, so it was never scored"
        never = [name for name, t in self.tuning.items() if t.areas and t.memory is None and not self.scored[name]]
        self.lost = [*lost.values(), *(Broken(a, "failed", f"tune {a}, budget {budget:g}", words) for a in never)]
        self.damaged = {run.arm for run in self.lost}

    def values(self, measure: Measure) -> ArmValues:
        """Of the whole runs."""
        return {name: by_unit(found, measure) for name, found in self.whole.items()}

    def _is_tuned(self, record: Record) -> bool:
        tuned = self.tuning[record.cell.arm]
        if not self.config.frontier or tuned.learning_rate is None:
            return True
        return (record.cell.learning_rate, record.cell.memory) == (tuned.learning_rate, tuned.memory)


def broken(records: Sequence[Record]) -> dict[str, Broken]:
    """Key of the record -> what is wrong with it; for scored runs."""
    noise = max(MEASURES["target_loss"].margin, TIMES * seed_noise(records))
    judged = {record.key: (record.cell, _judge(record, noise)) for record in records}
    return {key: Broken(cell.arm, found[0], cell.label, found[1]) for key, (cell, found) in judged.items() if found}


def _judge(record: Record, noise: float) -> tuple[How, str] | None:
    if record.measures is None:
        return "failed", record.error or "ended in an error"
    losses = [point.loss for point in record.measures.curve]
    if record.measures.touched == 0:
        return "idle", "trained nothing: no parameter was ever in its mask"
    if len(losses) < 2:
        return None
    if len(set(losses)) == 1:
        return "idle", f"did nothing: the target loss was {losses[0]:.4g} at every evaluation, to the bit"
    if losses[-1] > max(GROWTH * losses[0], losses[0] + noise):
        return "diverged", f"diverged: the target loss began at {losses[0]:.4g} and ended at {losses[-1]:.4g}"
    return None


def seed_noise(records: Iterable[Record]) -> float:
    """Standard deviation of the target loss between runs that differ only in seed or draw; 0 if nothing is repeated.

    It is the lower median over arms, tasks and settings, so that one that diverges does not hide itself.
    """
    names = ("arm", "task", "model", "budget", "memory", "learning_rate")
    values = ((attrgetter(*names)(record.cell), MEASURES["target_loss"].read(record)) for record in records)
    groups = grouped((of, value) for of, value in values if value is not None and np.isfinite(value))
    spreads = [float(np.std(group, ddof=1)) for group in groups.values() if len(group) > 1]
    return median_low(spreads) if spreads else 0.0
