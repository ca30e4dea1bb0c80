"""Secondary tests: differences between two arms, and arms among random masks. The primary contrast is in `verdict`."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import Literal

import numpy as np

from ...common.intervals import LEVEL, Interval, Unit, among_random, holm, mean_interval, p_value
from . import frontier
from .measures import FORGETTING, MEASURES, Measure, draws
from .part import Part

REFERENCES = ("static", "random", "full")
"""Arms that every other arm is compared with; forgetting also with `full_replay`."""

_SETTING = attrgetter("cell.learning_rate", "cell.memory")

Outcome = Literal["better", "worse", "level", "broken", "undecidable", "not tested"]


@dataclass(frozen=True)
class Contrast:
    """Arm a minus arm b by one measure, paired over tasks, base models and seeds.

    Attributes:
        p: of the paired t-test over tasks.
        p_holm: `p` after Holm's correction over all tested secondary contrasts of the comparison: those of the primary
            measure and of forgetting, at all budgets.
        outcome: from `p_holm` at 5 %, but "level" if the whole interval is closer to zero than the measure's margin;
            "not tested" for the other measures, whose intervals are for orientation.
        unmatched: units left out because the two arms have no target loss in common (forgetting only).
    """

    a: str
    b: str
    measure: str
    interval: Interval
    p: float | None
    p_holm: float | None
    outcome: Outcome
    unmatched: int = 0


def contrasts(part: Part) -> tuple[Contrast, ...]:
    """Every arm minus each of REFERENCES, and the primary arm minus every other, by every measure.

    They are not corrected yet (see `decided`). Nothing is claimed about arms with a broken run.
    """
    known = [name for name, runs in part.whole.items() if runs or name in part.damaged]
    pairs = [(a, b) for b in REFERENCES for a in known] + [(part.config.primary_arm, b) for b in known]
    found = []

    def add(a: str, b: str, measure: Measure, differences: Mapping[Unit, float], unmatched: int = 0) -> None:
        tested = measure in (part.config.measure, FORGETTING)
        outcome: Outcome = "broken" if {a, b} & part.damaged else "undecidable" if tested else "not tested"
        p = p_value(differences) if tested else None
        found.append(Contrast(a, b, measure.key, mean_interval(differences), p, None, outcome, unmatched))

    for measure in MEASURES.values():
        values = part.values(measure)
        for a, b in _distinct(pairs, known):
            add(a, b, measure, {unit: x - values[b][unit] for unit, x in values[a].items() if unit in values[b]})
    seen = {name: frontier.points(runs) for name, runs in part.points.items()}
    if any(seen.values()):
        for a, b in _distinct([*pairs, *((a, "full_replay") for a in known)], known):
            add(a, b, FORGETTING, *frontier.forgetting(seen[a], seen[b]))
    return tuple(found)


def _distinct(pairs: Iterable[tuple[str, str]], known: Collection[str]) -> list[tuple[str, str]]:
    """Pairs of known arms, each once in either order."""
    found: dict[frozenset[str], tuple[str, str]] = {}
    for a, b in pairs:
        if a != b and a in known and b in known:
            found.setdefault(frozenset((a, b)), (a, b))
    return list(found.values())


def decided(contrast: Contrast, p_holm: float | None) -> Contrast:
    """The contrast with its corrected p-value and what follows from it; unchanged if it was not tested."""
    mean, low, high = contrast.interval.mean, contrast.interval.low, contrast.interval.high
    if p_holm is None or mean is None:
        return contrast
    measure = MEASURES.get(contrast.measure, FORGETTING)
    negligible = low is not None and high is not None and -measure.margin < low < high < measure.margin
    outcome: Outcome = "level"
    if p_holm < 1 - LEVEL and not negligible:
        outcome = "better" if (mean > 0) == measure.higher_is_better else "worse"
    return replace(contrast, p_holm=p_holm, outcome=outcome)


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
    """Is a mask better than random masks? The test that `foresight evidence` applies to edits, applied to masks.

    A run of an arm with masks of components takes its place among the draws of the fixed random arm on the same task,
    base model and seed, at the learning rate and optimizer memory that the arm was tuned to, or the difference could be
    due to these. If the choice of components made no difference, every place would be equally likely. Empty without at
    least two draws.

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
