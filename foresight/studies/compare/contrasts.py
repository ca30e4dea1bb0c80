"""Secondary contrasts: differences between two arms. The primary contrast is in `verdict`."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from ...common.intervals import LEVEL, Interval, Unit, mean_interval, p_value
from . import frontier
from .measures import FORGETTING, MEASURES, Measure
from .part import Part

REFERENCES = ("static", "random", "full")
"""Arms that every other arm is compared with; forgetting also with `full_replay`."""

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
    measure = (MEASURES | {FORGETTING.key: FORGETTING})[contrast.measure]
    negligible = low is not None and high is not None and -measure.margin < low < high < measure.margin
    outcome: Outcome = "level"
    if p_holm < 1 - LEVEL and not negligible:
        outcome = "better" if (mean > 0) == measure.higher_is_better else "worse"
    return replace(contrast, p_holm=p_holm, outcome=outcome)
