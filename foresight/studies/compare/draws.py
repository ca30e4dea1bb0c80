"""Is a mask better than random masks? The test that `foresight evidence` applies to edits, applied to masks.

An arm's run takes its place among the runs of random masks on the same task, base model and seed. If the choice of
components made no difference, every place would be equally likely (`intervals.among_random`). The random runs have the
learning rate and optimizer memory that the arm was tuned to, or the difference could be due to these.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...common.intervals import Unit, among_random, holm
from .measures import Measure, grouped
from .part import Part
from .results import Record


@dataclass(frozen=True)
class AmongRandom:
    """One arm among random masks of as many parameters.

    Attributes:
        p, p_holm: of the one-sided test, and corrected for all arms that are tested.
        beaten: share of the random runs that its runs beat, task by task.
        units: combinations of task, base model and seed. draws: random masks on each, at least.
    """

    arm: str
    p: float
    p_holm: float
    beaten: float
    units: int
    draws: int


def among_draws(part: Part) -> tuple[AmongRandom, ...]:
    """Every arm with masks of components among the draws of the fixed random arm; empty without at least two draws.

    Left out are arms at whose learning rate and optimizer memory no random mask ran, and hindsight: if that is better,
    locations differ, but it does not follow that a good one can be found.
    """
    measure, runs = part.config.measure, part.whole
    fixed = [name for name, arm in part.arms.items() if arm.settings == {"policy": "random"} and len(runs[name]) > 1]
    if not fixed:
        return ()
    found = {}
    for name, arm in part.arms.items():
        tuned = {_setting(record) for record in runs[name]}
        mine = _values(runs[name], measure)
        others = _values([r for r in part.points[fixed[0]] if _setting(r) in tuned], measure)
        pairs = [(float(np.mean(mine[unit])), np.array(others[unit])) for unit in mine if len(others.get(unit, ())) > 1]
        fair = arm.method == "mask" and not (arm.weights or arm.trains_everything or arm.hindsight or arm.sized_by)
        if fair and pairs and name != fixed[0]:
            found[name] = pairs
    p = {name: among_random(pairs) for name, pairs in found.items()}
    corrected = holm(p)
    return tuple(
        AmongRandom(
            arm=name,
            p=p[name],
            p_holm=corrected[name],
            beaten=float(np.mean([np.mean(drawn < value) for value, drawn in pairs])),
            units=len(pairs),
            draws=min(len(drawn) for _, drawn in pairs),
        )
        for name, pairs in found.items()
    )


def _setting(record: Record) -> tuple[float, str]:
    return record.cell.learning_rate, record.cell.memory


def _values(records: Sequence[Record], measure: Measure) -> dict[Unit, list[float]]:
    """Unit -> values of its draws; higher is better."""
    values = ((record.cell.unit, measure.read(record)) for record in records)
    return grouped((unit, measure.sign * value) for unit, value in values if value is not None)
