"""Secondary contrasts: differences between two arms. The primary contrast is in `verdict`."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from ...common.intervals import LEVEL, Interval, Unit, holm, mean_interval, p_value
from . import frontier
from .measures import FORGETTING, MEASURES, by_unit
from .results import Record
from .settings import CompareConfig

REFERENCES = ("static", "random", "full")
"""Arms that every other arm is compared with; forgetting also with `full_replay`."""

Outcome = Literal["better", "worse", "level", "broken", "undecidable", "not tested"]

Runs = Mapping[str, Sequence[Record]]
"""Arm -> its runs."""


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


def contrasts(whole: Runs, points: Runs, config: CompareConfig, damaged: Collection[str]) -> tuple[Contrast, ...]:
    """Every arm minus each of REFERENCES, and the primary arm minus every other, by every measure.

    Args:
        whole: runs at the tuned settings that are not broken.
        points: runs at all settings, for the frontiers of forgetting.
        damaged: arms with a broken run, about which nothing is claimed.
    """
    known = [name for name in whole if whole[name] or name in damaged]
    pairs = [(a, b) for b in REFERENCES for a in known] + [(config.primary_arm, b) for b in known]
    found = []
    for key, measure in MEASURES.items():
        values = {name: by_unit(runs, measure.read) for name, runs in whole.items()}
        for a, b in _distinct(pairs, known):
            differences = {unit: value - values[b][unit] for unit, value in values[a].items() if unit in values[b]}
            found.append(_contrast(a, b, key, differences, key == config.primary_measure))
    seen = {name: frontier.points(runs) for name, runs in points.items()}
    if any(seen.values()):
        for a, b in _distinct([*pairs, *((a, "full_replay") for a in known)], known):
            differences, unmatched = frontier.forgetting(seen[a], seen[b])
            found.append(_contrast(a, b, FORGETTING.key, differences, True, len(unmatched)))
    return tuple(replace(c, outcome="broken") if {c.a, c.b} & set(damaged) else c for c in found)


def _distinct(pairs: Iterable[tuple[str, str]], known: Collection[str]) -> list[tuple[str, str]]:
    """Pairs of known arms, each once in either order."""
    found: dict[frozenset[str], tuple[str, str]] = {}
    for a, b in pairs:
        if a != b and a in known and b in known:
            found.setdefault(frozenset((a, b)), (a, b))
    return list(found.values())


def _contrast(
    a: str, b: str, key: str, differences: Mapping[Unit, float], tested: bool, unmatched: int = 0
) -> Contrast:
    p = p_value(differences) if tested else None
    outcome: Outcome = "undecidable" if tested else "not tested"
    return Contrast(a, b, key, mean_interval(differences), p, None, outcome, unmatched)


def corrected(
    found: Mapping[float, Sequence[Contrast]], others: Mapping[float, float]
) -> tuple[dict[float, tuple[Contrast, ...]], dict[float, float]]:
    """Correct all p-values together by Holm's procedure.

    Args:
        found: contrasts by budget; those of broken arms are not tested.
        others: p-values of the same family, by budget.

    Returns:
        The contrasts with `p_holm` and outcome, and the corrected others.
    """
    tested: dict[tuple[float, int], float] = {(budget, -1): p for budget, p in others.items()}
    for budget, part in found.items():
        for at, contrast in enumerate(part):
            if contrast.p is not None and contrast.outcome != "broken":
                tested[budget, at] = contrast.p
    adjusted = holm(tested)
    decided = {
        budget: tuple(_decided(contrast, adjusted.get((budget, at))) for at, contrast in enumerate(part))
        for budget, part in found.items()
    }
    return decided, {budget: adjusted[budget, -1] for budget in others}


def _decided(contrast: Contrast, p_holm: float | None) -> Contrast:
    if p_holm is None or contrast.interval.mean is None:
        return contrast
    outcome: Outcome = "level"
    measure = FORGETTING if contrast.measure == FORGETTING.key else MEASURES[contrast.measure]
    if p_holm < 1 - LEVEL and not _negligible(contrast.interval, measure.margin):
        outcome = "better" if (contrast.interval.mean > 0) == measure.higher_is_better else "worse"
    return replace(contrast, p_holm=p_holm, outcome=outcome)


def _negligible(interval: Interval, margin: float) -> bool:
    return interval.low is not None and interval.high is not None and -margin < interval.low < interval.high < margin
