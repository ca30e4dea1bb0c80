"""How much of the realised circuit a run has trained; the definitions are this project's own.

The realised circuit is that of a full run of the same task, seed and data order at its end: the top components at its
last snapshot that fit into the budget. Shares count vectors, as a budget does, and are averaged over optimizer steps,
because a mask that becomes right only at the end has trained the wrong components until then.
"""

from __future__ import annotations

from collections.abc import Iterable

from ...masks.budget import budget_vectors
from ...masks.masks import Mask
from ...masks.schedule import MaskSchedule
from ...masks.selection import select
from ...model.components import ComponentTable
from ...trajectory.trajectory import Trajectory


def circuit_at(trajectory: Trajectory, table: ComponentTable, budget: float, snapshot: int = -1) -> Mask:
    """The circuit at a snapshot of a recorded run, by default the last."""
    trajectory.require_table(table)
    series = trajectory.series(trajectory.scorers[0])
    return select(series.values[:, snapshot], table, budget_vectors(table, budget))


def share_trained(schedule: MaskSchedule, circuit: Iterable[int], table: ComponentTable, steps: int) -> float | None:
    """Share of the vectors of these components that were being trained, averaged over `steps` optimizer steps.

    None if there are no components.
    """
    wanted = set(table.vector_ids(tuple(circuit)).tolist())
    if not wanted:
        return None
    ends = [step for step, _ in schedule.entries[1:]] + [steps]
    shared = 0
    for (step, mask), until in zip(schedule.entries, ends, strict=True):
        assert isinstance(mask, Mask)  # of components
        shared += (until - step) * len(wanted.intersection(table.vector_ids(mask.components).tolist()))
    return shared / (steps * len(wanted))
