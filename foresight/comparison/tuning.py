"""Equal tuning: every arm gets the same learning rates on the same unscored tasks, and the same rule picks one.

The rule is the smallest rate that is as good as the best, within `MARGIN`. One run a rate cannot tell closer rates
apart, and of two that look alike the larger is the one that ruins a run on another task.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from .results import Record

MARGIN = 0.05
"""Difference in log-loss area below which two learning rates count as equally good."""


@dataclass(frozen=True)
class Tuned:
    """How an arm's learning rate was chosen.

    Attributes:
        learning_rate: the chosen one; None if every one failed somewhere.
        areas: learning rate -> log-loss area, averaged over the tuning tasks; None where a run failed.
        at_edge: the choice is the smallest or largest of the grid, so a better one may lie outside.
    """

    learning_rate: float | None
    areas: dict[float, float | None]
    at_edge: bool


def tune(records: Iterable[Record]) -> Tuned:
    """Pick the learning rate of one arm from its tuning runs."""
    runs: dict[float, list[float | None]] = {}
    for record in records:
        area = record.measures.log_loss_area if record.measures else None
        runs.setdefault(record.cell.learning_rate, []).append(area)
    areas: dict[float, float | None] = {}
    for rate in sorted(runs):
        found = [area for area in runs[rate] if area is not None]
        areas[rate] = float(np.mean(found)) if len(found) == len(runs[rate]) else None
    usable = {rate: area for rate, area in areas.items() if area is not None}
    if not usable:
        return Tuned(None, areas, False)
    best = min(rate for rate, area in usable.items() if area <= min(usable.values()) + MARGIN)
    return Tuned(best, areas, len(areas) > 1 and best in (min(areas), max(areas)))
