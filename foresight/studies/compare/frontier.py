"""Forgetting at equal target loss: the definition is this project's own.

An arm that learns less forgets less, so retained losses are comparable only at equal target loss. The points of a run
are its evaluations, (target loss, retained loss); the runs of an arm at all scored learning rates are pooled. Their
frontier is the least retained loss seen at a target loss of t or less. Between two of its points it is a straight line
over log target loss, as runs pass there between evaluations (a staircase would charge a fast arm for evaluations that
it does not have). The forgetting of one arm minus another is the mean difference of their frontiers over
log(t + FLOOR), evenly from the lowest target loss that both reached to the loss before training. Each draw has its own
frontier, and the differences are averaged. A pair has no difference if one of the two hardly gets below the loss before
training.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import product

import numpy as np

from ...common.intervals import FLOOR, Unit
from .results import Record

GRID = 50
LEAST = 0.02
"""Nats of target loss that a common range must span."""

Point = tuple[float, float]
"""(target loss, retained loss), nats."""


def points(records: Iterable[Record]) -> dict[Unit, list[list[Point]]]:
    """(task, replicate) -> for each draw, the points of all its runs (none without retained losses)."""
    found: dict[Unit, dict[int, list[Point]]] = {}
    for record in records:
        curve = record.measures.curve if record.measures else ()
        if seen := [(p.loss, p.retained_loss) for p in curve if p.retained_loss is not None]:
            found.setdefault(record.cell.unit, {}).setdefault(record.cell.draw, []).extend(seen)
    return {unit: list(draws.values()) for unit, draws in found.items()}


def envelope(seen: Sequence[Point]) -> np.ndarray:
    """The points of the frontier [n, 2], ascending in target loss and descending in retained loss."""
    kept: list[Point] = []
    for target, retained in sorted(seen):
        if not kept or retained < kept[-1][1]:
            kept.append((target, retained))
    return np.array(kept)


def retained_at(frontier: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Retained loss at target losses: NaN below the lowest that was reached, constant above the highest."""
    found = np.interp(np.log(target + FLOOR), np.log(frontier[:, 0] + FLOOR), frontier[:, 1])
    return np.where(target < frontier[0, 0] * (1 - 1e-12), np.nan, found)


def grid(low: float, high: float) -> np.ndarray:
    """Target losses from `low` to `high`, evenly spaced in log(loss + FLOOR)."""
    losses = np.exp(np.linspace(np.log(low + FLOOR), np.log(high + FLOOR), GRID)) - FLOOR
    return np.clip(losses, low, high)


def difference(a: Sequence[Point], b: Sequence[Point]) -> float | None:
    """Mean retained loss of a minus b at equal target loss, nats; None without a common range.

    The first point of each is the model before training.
    """
    low = max(min(a)[0], min(b)[0])
    high = min(a[0][0], b[0][0])
    if high - low < LEAST:
        return None
    target = grid(low, high)
    return float(np.mean(retained_at(envelope(a), target) - retained_at(envelope(b), target)))


def forgetting(a: dict[Unit, list[list[Point]]], b: dict[Unit, list[list[Point]]]) -> tuple[dict[Unit, float], int]:
    """Forgetting of one arm minus another by unit, and the number of units without a common range."""
    shared = [unit for unit in a if unit in b]
    pairs = {unit: [difference(mine, its) for mine, its in product(a[unit], b[unit])] for unit in shared}
    known = {unit: [value for value in found if value is not None] for unit, found in pairs.items()}
    differences = {unit: float(np.mean(found)) for unit, found in known.items() if found}
    return differences, len(shared) - len(differences)
