"""Is a localized set of heads better than random ones? The test, the interval, and what may be concluded.

- *p*: the chance that a set drawn at random is as good as the localized one: (1 + random sets at least as good) /
  (1 + random sets). It is the exact permutation test of one value against n, one-sided, since the claim is that the
  location helps; over the localizers of one method it is corrected by Holm's procedure.
- *gap*: the localized set's effect less the mean of the random ones. Its interval is about one random set, not about
  their mean: the gap to 95 % of random sets, over resampled sets and test questions (a crossed bootstrap), is within
  it. An interval about the mean would exclude zero for about any set, as no random set is like their average.
- *to full*: less the best full alignment (all heads, or rank-one LoRA), paired by test question.

The combination of the three is this project's own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from ...common.errors import DataError
from ...common.intervals import LEVEL, RESAMPLES, Interval, among_random, holm, paired_difference
from .outcomes import FULL, LOCALIZED, LORA_ARM, RANDOM, Outcome, Point
from .words import caveats, contrast, sentence

Finding = Literal["matters", "worse", "no difference", "too few sets"]


@dataclass(frozen=True)
class Gap:
    """One localizer against random sets of as many heads.

    Attributes:
        effect, random: of the localized set, and the mean of the random ones; `draws` of these.
        gap: see the module. p, p_holm: of the test. beaten: share of random sets that are worse.
        to_full: less full alignment; `full` names the one that is best on validation. None without any.
        matching: random sets that are not shown to be worse than full alignment; None likewise.
        kl, random_kl: divergence from the model before, of the localized set and the mean of the random ones.
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


@dataclass(frozen=True)
class Evidence:
    """The result of a study.

    Attributes:
        effect: name of what is compared. before: its value without an edit. heads: in a set.
        outcomes: method -> every set. gaps: of each method and localizer.
        sentences: what was found, the first ones first. caveats: what it does not show.
    """

    effect: str
    before: float
    heads: int
    outcomes: dict[str, list[Outcome]]
    gaps: list[Gap]
    sentences: list[str]
    caveats: list[str]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Evidence:
        """Raises KeyError or TypeError for anything but what `to_json` gave."""

        def interval(found: Mapping[str, Any] | None) -> Interval | None:
            return Interval(**found) if found is not None else None

        gaps = [Gap(**(g | {"gap": interval(g["gap"]), "to_full": interval(g["to_full"])})) for g in data["gaps"]]
        outcomes = {method: [_outcome(o) for o in found] for method, found in data["outcomes"].items()}
        return cls(**(dict(data) | {"gaps": gaps, "outcomes": outcomes}))


def judge(outcomes: Mapping[str, Sequence[Outcome]], before: float, effect: str, heads: int) -> Evidence:
    """Judge the outcomes of each method.

    Raises:
        DataError: a method without a random set, or without a localized one.
    """
    gaps = [gap for method, found in outcomes.items() for gap in _gaps(method, found)]
    said = [sentence(gap, effect, before) for gap in gaps]
    failed = sum(o.failed for found in outcomes.values() for o in found)
    return Evidence(
        effect, before, heads, {method: list(found) for method, found in outcomes.items()}, gaps,
        [*contrast(gaps), *said], caveats(gaps, failed),
    )  # fmt: skip


def gap_interval(mine: np.ndarray, others: np.ndarray, level: float = LEVEL, seed: int = 0) -> Interval:
    """Mean of `mine` [questions] less the mean of `others` [sets, questions], with the interval for one random set."""
    rng = np.random.default_rng(seed)
    sets, questions = others.shape
    weights = rng.multinomial(questions, np.full(questions, 1 / questions), RESAMPLES) / questions
    gaps = ((mine - others[rng.integers(sets, size=RESAMPLES)]) * weights).sum(1)
    low, high = np.quantile(gaps, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float((mine - others).mean()), float(low), float(high), sets, sets, "bootstrap")


def _gaps(method: str, outcomes: Sequence[Outcome]) -> list[Gap]:
    random = [o for o in outcomes if o.kind == RANDOM]
    localized = [o for o in outcomes if o.kind == LOCALIZED]
    full = max((o for o in outcomes if o.kind in (FULL, LORA_ARM)), key=lambda o: o.best.validation, default=None)
    fair = {o.name: [r for r in random if not _same(o, r)] for o in localized}
    if not localized or not all(fair.values()):
        raise DataError(
            f"{method}: {len(localized)} localized and {len(random)} random sets of heads finished; expected at least "
            "one of each. See the records in runs for what failed"
        )
    means = {name: np.array([np.mean(r.answers) for r in found]) for name, found in fair.items()}
    p = {o.name: among_random([(float(np.mean(o.answers)), means[o.name])]) for o in localized}
    corrected = holm(p)
    matching = {r.name: _paired(r, full).decided >= 0 for r in random} if full else {}
    return [
        _gap(method, o, fair[o.name], full, p[o.name], corrected[o.name], len(localized), matching) for o in localized
    ]


def _gap(
    method: str,
    mine: Outcome,
    random: Sequence[Outcome],
    full: Outcome | None,
    p: float,
    corrected: float,
    localizers: int,
    matching: Mapping[str, bool],
) -> Gap:
    answers, others = np.array(mine.answers), np.array([r.answers for r in random])
    effect, means = float(answers.mean()), others.mean(1)
    return Gap(
        method=method,
        localizer=mine.name,
        effect=effect,
        random=float(means.mean()),
        draws=len(random),
        gap=gap_interval(answers, others),
        p=p,
        p_holm=corrected,
        beaten=float((means < effect - 1e-12).mean()),
        finding=_finding(corrected, among_random([(-effect, -means)]), localizers / (1 + len(random))),
        kl=mine.best.kl,
        random_kl=float(np.mean([r.best.kl for r in random])),
        to_full=_paired(mine, full) if full else None,
        full=full.name if full else None,
        matching=sum(matching[r.name] for r in random) if full else None,
    )


def _same(a: Outcome, b: Outcome) -> bool:
    """Whether two sets have the same heads, for every seed: a set is not compared with itself."""
    return [set(heads) for heads in a.heads] == [set(heads) for heads in b.heads]


def _finding(p: float, low: float, least: float) -> Finding:
    """`low` is the p-value of the opposite claim; `least` the smallest that `p` can be."""
    if p <= 1 - LEVEL:
        return "matters"
    if least > 1 - LEVEL:
        return "too few sets"
    return "worse" if low <= 1 - LEVEL else "no difference"


def _paired(a: Outcome, b: Outcome) -> Interval:
    """Interval of a - b over the test questions."""
    first, second = ({("", i): value for i, value in enumerate(o.answers)} for o in (a, b))
    return paired_difference(first, second)


def _outcome(data: Mapping[str, Any]) -> Outcome:
    return Outcome(
        name=data["name"],
        kind=data["kind"],
        heads=tuple(tuple(heads) for heads in data["heads"]),
        best=Point(**data["best"]),
        answers=tuple(data["answers"]),
        points=tuple(Point(**point) for point in data["points"]),
        failed=data["failed"],
    )
