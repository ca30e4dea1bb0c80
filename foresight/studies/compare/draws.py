"""Is a mask better than random masks? The test that `foresight evidence` applies to edits, applied to masks.

An arm's run takes its place among the runs of random masks on the same task, base model and seed. If the choice of
components made no difference, every place would be equally likely (`intervals.among_random`). The random runs have the
learning rate and optimizer memory that the arm was tuned to, or the difference could be due to these.
"""

from __future__ import annotations

from dataclasses import dataclass
from operator import attrgetter

import numpy as np

from ...common.intervals import among_random, holm
from .measures import draws
from .part import Part

_SETTING = attrgetter("cell.learning_rate", "cell.memory")


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
    measure, runs, found = part.config.measure, part.whole, {}
    drawn = [name for name, arm in part.arms.items() if arm.settings == {"policy": "random"} and len(runs[name]) > 1]
    for name, arm in part.arms.items():
        fair = arm.method == "mask" and not (arm.weights or arm.trains_everything or arm.hindsight or arm.sized_by)
        if not drawn or name == drawn[0] or not fair:
            continue
        tuned = {_SETTING(record) for record in runs[name]}
        others = draws([record for record in part.points[drawn[0]] if _SETTING(record) in tuned], measure)
        pairs = [
            (measure.sign * float(np.mean(values)), measure.sign * np.array(others[unit]))
            for unit, values in draws(runs[name], measure).items()
            if len(others.get(unit, ())) > 1
        ]
        if pairs:
            found[name] = pairs
    p = {name: among_random(pairs) for name, pairs in found.items()}
    corrected = holm(p)
    return tuple(
        AmongRandom(
            arm=name,
            p=p[name],
            p_holm=corrected[name],
            beaten=float(np.mean([np.mean(random < value) for value, random in pairs])),
            units=len(pairs),
            draws=min(len(random) for _, random in pairs),
        )
        for name, pairs in found.items()
    )
