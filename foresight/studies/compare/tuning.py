"""Equal tuning: every arm gets the same learning rates and optimizer memories on the same unscored tasks.

The rate taken is the best on those tasks. A memory has to earn its place: of those whose best rates cannot be told
apart by one run a setting, within `MARGIN`, it is the one named first, so that arms differ in it for a reason only.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from .results import Record

MARGIN = 0.05
"""Difference in log-loss area below which two memories, each at its best rate, count as equally good."""


@dataclass(frozen=True)
class Tuned:
    """How the learning rate and optimizer memory of an arm were chosen, at one budget.

    Attributes:
        learning_rate, memory: the chosen ones; None if every setting failed somewhere.
        areas: memory -> learning rate -> log-loss area, averaged over base models, tuning tasks and draws; None where
            a run failed.
        at_edge: the rate is the smallest or largest of the grid, so a better one may lie outside.
    """

    learning_rate: float | None
    memory: str | None
    areas: dict[str, dict[float, float | None]]
    at_edge: bool


def tune(records: Iterable[Record]) -> Tuned:
    """Choose for one arm at one budget from its tuning runs; memories are named in the order of the records."""
    runs: dict[str, dict[float, list[float | None]]] = {}
    for record in records:
        area = record.measures.log_loss_area if record.measures else None
        runs.setdefault(record.cell.memory, {}).setdefault(record.cell.learning_rate, []).append(area)
    areas = {memory: {rate: _mean(found[rate]) for rate in sorted(found)} for memory, found in runs.items()}
    usable = {
        memory: [(area, rate) for rate, area in found.items() if area is not None] for memory, found in areas.items()
    }
    best = {memory: min(found) for memory, found in usable.items() if found}
    if not best:
        return Tuned(None, None, areas, False)
    lowest, _ = min(best.values())
    memory, rate = next((memory, rate) for memory, (area, rate) in best.items() if area <= lowest + MARGIN)
    rates = areas[memory]
    return Tuned(rate, memory, areas, len(rates) > 1 and rate in (min(rates), max(rates)))


def _mean(found: list[float | None]) -> float | None:
    known = [area for area in found if area is not None]
    return float(np.mean(known)) if len(known) == len(found) else None
