"""What the masks of a comparison have led to, for policy `value` of later runs to learn from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ...common.errors import TrajectoryError
from ...masks.masks import Mask
from ...policies.targets.outcomes import Outcome, write_outcomes
from ...trajectory.trajectory import Trajectory
from .results import Record

OUTCOMES = "outcomes.json"


def save_outcomes(folder: Path, runs: Path, records: Sequence[Record]) -> None:
    """Write outcomes.json: the scored runs that kept one mask, with the scores of step 0 and the log-loss area.

    Runs whose scores of step 0 are not known, as the full run of their task failed or was deleted, are left out; so
    the file is written even if it lists none.
    """
    found = []
    for record in records:
        cell, measures = record.cell, record.measures
        if cell.stage != "score" or measures is None or "realised" not in cell.sources:
            continue
        masks = {names for _, names in measures.schedule}
        if len(masks) != 1:
            continue
        try:
            trajectory = Trajectory.read(runs / cell.sources["realised"] / "run" / "trajectory")
        except TrajectoryError:
            continue
        before = trajectory.series(trajectory.scorers[0]).until(0)
        place = {name: i for i, name in enumerate(before.name.tolist())}
        mask = Mask.of(place[name] for name in masks.pop())
        assert measures.log_loss_area is not None
        found.append(Outcome(cell.task, before, mask, measures.log_loss_area))
    write_outcomes(folder / OUTCOMES, found)
