"""Is a localized set of heads better than random ones? The test and the interval of one localizer.

- *p*: the chance that a set drawn at random is as good as the localized one: (1 + random sets at least as good) /
  (1 + random sets). This is the exact permutation test of one value against n, one-sided, because the claim is that the
  location helps. Over the localizers of one method it is corrected by Holm's procedure.
- *gap*: the localized set's effect minus the mean effect of the random sets. Its interval is about one random set, not
  about their mean: it contains the gap to 95 % of random sets, over resampled sets and test questions (a crossed
  bootstrap). An interval about the mean would exclude zero for almost any set, as no random set equals their average.
- *to full*: the localized set's effect minus that of the best full alignment (all heads, or rank-one LoRA), paired by
  test question.

The combination of the three is this project's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ...common.errors import DataError
from ...common.intervals import LEVEL, RESAMPLES, Interval, among_random, holm, paired_difference
from .outcomes import FULL, LOCALIZED, LORA_ARM, RANDOM, Outcome

Finding = Literal["matters", "worse", "no difference", "too few sets"]


@dataclass(frozen=True)
class Gap:
    """One localizer compared with random sets of as many heads.

    Attributes:
        effect, random: effect of the localized set, and the mean of the `draws` random ones.
        gap, p: see the module docstring.
        p_holm: `p` after correction.
        beaten: share of random sets that are worse.
        kl, random_kl: divergence from the model before the edit: of the localized set, and the mean of the random ones.
        to_full: see the module docstring; `full` names the full alignment that is best on validation. None without any.
        matching: number of random sets that are not shown to be worse than full alignment; None without any.
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
    """Compare each localized set of one method with the random ones.

    Raises:
        DataError: no random set to compare with, or no localized one.
    """
    random = [o for o in outcomes if o.kind == RANDOM]
    localized = [o for o in outcomes if o.kind == LOCALIZED]
    full = max((o for o in outcomes if o.kind in (FULL, LORA_ARM)), key=lambda o: o.best.validation, default=None)
    # A random draw may be the localized set itself; a set is not compared with itself.
    others = {o.name: [r for r in random if not _same(o, r)] for o in localized}
    if not localized or not all(others.values()):
        raise DataError(
            f"{method}: {len(localized)} localized and {len(random)} random sets of heads finished; expected at least "
            "one of each. See the records in runs for what failed"
        )
    means = {name: np.array([np.mean(r.answers) for r in found]) for name, found in others.items()}
    p = {o.name: among_random([(float(np.mean(o.answers)), means[o.name])]) for o in localized}
    corrected = holm(p)
    as_good = {r.name: _paired(r, full).decided >= 0 for r in random} if full else {}
    found = []
    for mine in localized:
        rivals, effect = others[mine.name], float(np.mean(mine.answers))
        opposite = among_random([(-effect, -means[mine.name])])
        found.append(
            Gap(
                method=method,
                localizer=mine.name,
                effect=effect,
                random=float(means[mine.name].mean()),
                draws=len(rivals),
                gap=gap_interval(np.array(mine.answers), np.array([r.answers for r in rivals])),
                p=p[mine.name],
                p_holm=corrected[mine.name],
                beaten=float((means[mine.name] < effect - 1e-12).mean()),
                finding=_finding(corrected[mine.name], opposite, len(localized) / (1 + len(rivals))),
                kl=mine.best.kl,
                random_kl=float(np.mean([r.best.kl for r in rivals])),
                to_full=_paired(mine, full) if full else None,
                full=full.name if full else None,
                matching=sum(as_good[r.name] for r in rivals) if full else None,
            )
        )
    return found


def gap_interval(mine: np.ndarray, others: np.ndarray, level: float = LEVEL, seed: int = 0) -> Interval:
    """Mean of `mine` [questions] minus the mean of `others` [sets, questions], with the interval for one random set."""
    rng = np.random.default_rng(seed)
    sets, questions = others.shape
    weights = rng.multinomial(questions, np.full(questions, 1 / questions), RESAMPLES) / questions
    drawn = ((mine - others[rng.integers(sets, size=RESAMPLES)]) * weights).sum(1)
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float((mine - others).mean()), float(low), float(high), sets, sets, "bootstrap")


def _same(a: Outcome, b: Outcome) -> bool:
    """Whether two sets have the same heads for every seed."""
    return [set(heads) for heads in a.heads] == [set(heads) for heads in b.heads]


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
