"""Every set of heads at its best setting, and localized sets compared with random ones.

All sets, the random ones included, are tuned alike: over the same settings, on the validation questions, for the same
measure; the effect is read on the test questions. Of each localizer:

- *p*: the chance that a set drawn at random is as good as the localized one, by the exact one-sided permutation test,
  because the claim is that the location helps; over the localizers of a method it is corrected by Holm's procedure.
- *gap*: the localized set's effect minus the mean effect of the random sets. Its interval contains the gap to 95 % of
  random sets, over resampled sets and test questions (a crossed bootstrap). An interval about their mean would exclude
  zero for almost any set, as no random set equals their average.
- *to full*: the localized set's effect minus that of the best full alignment (all heads, or rank-one LoRA), paired by
  test question.

The combination of the three is this project's own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ...common.errors import DataError
from ...common.intervals import LEVEL, RESAMPLES, Interval, among_random, holm, paired_difference
from .cells import Record

LOCALIZED, RANDOM, FULL, LORA_ARM = "localized", "random", "full", "lora"
"""Kinds of arms."""

Finding = Literal["matters", "worse", "no difference", "too few sets"]

Setting = tuple[float, float]
"""(tau, learning rate) of an optimal edit, (0, strength) of a shift."""


@dataclass(frozen=True)
class Arm:
    """A set of heads for each seed (a localizer may find other heads with other questions); empty for LoRA."""

    name: str
    kind: str
    heads: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Point:
    """One `Setting` (tau, value) of one set of heads, averaged over seeds: its effects, KL(after || before) in nats,
    and the mean accuracy over retained tasks (None without any).
    """

    tau: float
    value: float
    validation: float
    test: float
    kl: float
    retained: float | None


@dataclass(frozen=True)
class Outcome(Arm):
    """An arm at the best of all its `points` on the validation questions.

    Attributes:
        answers: effect by test question, averaged over seeds.
        failed: number of runs that failed.
    """

    best: Point
    answers: tuple[float, ...]
    points: tuple[Point, ...]
    failed: int = 0

    @property
    def effect(self) -> float:
        return float(np.mean(self.answers))


def outcome(
    arm: Arm, runs: Mapping[Setting, Sequence[Record]], effect: str, max_divergence: float | None = None
) -> Outcome | None:
    """Tune one set of heads; ties go to the smaller divergence. None if no setting finished for every seed.

    Settings that exceed `max_divergence` are not chosen, unless all do: then the one with the smallest divergence is.
    """
    answers: dict[Point, np.ndarray] = {}
    failed = sum(record.measures is None for found in runs.values() for record in found)
    for setting, found in runs.items():
        measured = [record.measures for record in found if record.measures]
        if len(measured) < len(found):
            continue
        kept = [np.mean(list(m.retained.values())) for m in measured if m.retained]
        point = Point(
            *setting,
            validation=float(np.mean([m.validation[effect] for m in measured])),
            test=float(np.mean([m.test[effect] for m in measured])),
            kl=float(np.mean([m.kl for m in measured])),
            retained=float(np.mean(kept)) if kept else None,
        )
        answers[point] = np.mean([m.answers[effect] for m in measured], 0)
    if not answers:
        return None
    allowed = [point for point in answers if max_divergence is None or point.kl <= max_divergence]
    allowed = allowed or [min(answers, key=lambda point: point.kl)]
    best = max(allowed, key=lambda point: (round(point.validation, 12), -point.kl))
    return Outcome(arm.name, arm.kind, arm.heads, best, tuple(answers[best].tolist()), tuple(answers), failed)


@dataclass(frozen=True)
class Gap:
    """One localizer compared with random sets of as many heads; see the module docstring.

    Attributes:
        effect, random: effect of the localized set, and the mean of the `draws` random ones.
        beaten: share of random sets that are worse.
        kl, random_kl: divergences from the model before the edit, likewise.
        full: the full alignment that is best on validation; None, as `to_full` and `matching`, without any.
        matching: number of random sets that are not shown to be worse than full alignment.
    """

    method: str
    localizer: str
    effect: float
    random: float
    draws: int
    gap: Interval
    p: float
    p_holm: float
    beaten: float
    finding: Finding
    kl: float
    random_kl: float
    to_full: Interval | None = None
    full: str | None = None
    matching: int | None = None


def gaps(method: str, outcomes: Sequence[Outcome]) -> list[Gap]:
    """Compare each localized set of one method with the random ones. Raises DataError if one of the two is missing."""
    random = [o for o in outcomes if o.kind == RANDOM]
    localized = [o for o in outcomes if o.kind == LOCALIZED]
    full = max((o for o in outcomes if o.kind in (FULL, LORA_ARM)), key=lambda o: o.best.validation, default=None)
    # A random draw may be the localized set itself, with the same heads for every seed; that is not compared with it.
    others = {o.name: [r for r in random if list(map(set, r.heads)) != list(map(set, o.heads))] for o in localized}
    if not localized or not all(others.values()):
        raise DataError(
            f"{method}: {len(localized)} localized and {len(random)} random sets of heads finished; expected at least "
            "one of each. See the records in runs for what failed"
        )
    random_effects = {name: np.array([r.effect for r in found]) for name, found in others.items()}
    p = {o.name: among_random([(o.effect, random_effects[o.name])]) for o in localized}
    corrected = holm(p)

    def gap(mine: Outcome) -> Gap:
        rivals, effects = others[mine.name], random_effects[mine.name]
        opposite = among_random([(-mine.effect, -effects)])
        return Gap(
            method=method,
            localizer=mine.name,
            effect=mine.effect,
            random=float(effects.mean()),
            draws=len(rivals),
            gap=gap_interval(np.array(mine.answers), np.array([r.answers for r in rivals])),
            p=p[mine.name],
            p_holm=corrected[mine.name],
            beaten=float((effects < mine.effect - 1e-12).mean()),
            finding=_finding(corrected[mine.name], opposite, len(localized) / (1 + len(rivals))),
            kl=mine.best.kl,
            random_kl=float(np.mean([r.best.kl for r in rivals])),
            to_full=_paired(mine, full) if full else None,
            full=full.name if full else None,
            matching=sum(_paired(r, full).decided >= 0 for r in rivals) if full else None,
        )

    return [gap(mine) for mine in localized]


def gap_interval(mine: np.ndarray, others: np.ndarray) -> Interval:
    """Mean of `mine` [questions] minus the mean of `others` [sets, questions], with the interval for one random set."""
    rng = np.random.default_rng(0)
    sets, questions = others.shape
    weights = rng.multinomial(questions, np.full(questions, 1 / questions), RESAMPLES) / questions
    drawn = ((mine - others[rng.integers(sets, size=RESAMPLES)]) * weights).sum(1)
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float((mine - others).mean()), float(low), float(high), sets, sets, "bootstrap")


def _finding(p: float, opposite: float, least: float) -> Finding:
    """`opposite` is the p-value of the opposite claim; `least` the smallest value that `p` can take."""
    if p <= 1 - LEVEL:
        return "matters"
    if least > 1 - LEVEL:
        return "too few sets"
    return "worse" if opposite <= 1 - LEVEL else "no difference"


def _paired(a: Outcome, b: Outcome) -> Interval:
    """Interval of a - b over the test questions."""
    first, second = ({("", i): value for i, value in enumerate(o.answers)} for o in (a, b))
    return paired_difference(first, second)
