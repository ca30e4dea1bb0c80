"""Equal tuning: every arm gets the same learning rates and optimizer memories on the same unscored tasks.

The best rate on those tasks is taken. Of memories whose best rates cannot be told apart by one run per setting (within
`MARGIN`) the first named is taken, so that arms differ in memory only for a reason.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from .measures import grouped
from .results import Record

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
    memories = grouped((record.cell.memory, record) for record in records)
    areas = {}
    for memory, of in memories.items():
        rates = grouped((r.cell.learning_rate, r.measures.log_loss_area if r.measures else None) for r in of)
        areas[memory] = {rate: _mean(rates[rate]) for rate in sorted(rates)}
    usable = {
        memory: [(area, rate) for rate, area in found.items() if area is not None] for memory, found in areas.items()
    }
    best = {memory: min(found) for memory, found in usable.items() if found}
    if not best:
        return Tuned(None, None, areas, False)
    lowest, _ = min(best.values())
    memory, rate = next((memory, rate) for memory, (area, rate) in best.items() if area <= lowest + MARGIN)
    known = areas[memory]
    return Tuned(rate, memory, areas, len(known) > 1 and rate in (min(known), max(known)))


def _mean(found: list[float | None]) -> float | None:
    known = [area for area in found if area is not None]
    return float(np.mean(known)) if len(known) == len(found) else None
