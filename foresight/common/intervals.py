"""Means and paired differences, with intervals and tests that stay valid when runs are few or share a task.

The independent unit is the task, or the seed if there is only one task. Seeds of one task are averaged first: they
share its difficulty, so counting them as independent would make intervals too narrow. With at least
`ENOUGH_TO_RESAMPLE` units the interval is a percentile bootstrap (`scipy.stats.bootstrap`) at the expanded level of
Hesterberg, "What Teachers Should Know About the Bootstrap" (arXiv 1411.5279), which corrects its narrowness at small n.
A resampled mean never leaves the range of its n points, so a bootstrap covers at most 1 - 2^(1-n), less than 95 % for
n < 6; below that the interval is Student's t-interval of the unit means. A single unit has no interval: `low` and
`high` are None.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any, Literal, TypeVar

import numpy as np
from scipy import optimize, stats

from .errors import DataError

LEVEL = 0.95
POWER = 0.8
FLOOR = 0.01
"""Nats added to a loss before its logarithm is taken, so that losses near zero do not dominate."""

RESAMPLES = 4999
ENOUGH_TO_RESAMPLE = 6

Unit = tuple[str, Any]
"""(task, replicate), over which two arms are paired; a replicate is a seed, or a base model and a seed."""

Name = TypeVar("Name", bound=Hashable)


@dataclass(frozen=True)
class Interval:
    """A mean with its 95 % interval: `n` runs were averaged, and the interval rests on `units` independent units."""

    mean: float | None
    low: float | None
    high: float | None
    n: int
    units: int
    method: Literal["bootstrap", "t", "none"]

    @property
    def decided(self) -> int:
        """1 if the whole interval is above zero, -1 if it is below, 0 if it contains zero or does not exist.

        A few units that agree exactly decide nothing either: accuracies are multiples of 1/examples, so differences are
        often equal by chance, and an interval of zero width claims a certainty that nobody has.
        """
        if self.low is None or self.high is None:
            return 0
        if self.low == self.high and self.units < ENOUGH_TO_RESAMPLE:
            return 0
        return int(self.low > 0) - int(self.high < 0)

    def within(self, least: float, most: float) -> Interval:
        """Return the same interval, clipped to the range of possible values."""
        if self.low is None or self.high is None:
            return self
        return replace(self, low=max(least, self.low), high=min(most, self.high))


def mean_interval(values: Mapping[Unit, float], level: float = LEVEL) -> Interval:
    """Average over each task's seeds, then over tasks, and return the mean with its interval.

    Args:
        values: one finite number per (task, seed).
        level: coverage of the interval; the same input gives the same interval.

    Raises:
        DataError: a value is not finite. A diverged run must be left out and reported, not averaged.
    """
    for unit, value in values.items():
        if not np.isfinite(value):
            raise DataError(
                f"value of {unit} is {value}; expected a finite number: leave failed runs out and list them"
            )
    points = _unit_means(values)
    n, units = len(values), len(points)
    if units == 0:
        return Interval(None, None, None, 0, 0, "none")
    mean = float(points.mean())
    if units == 1:
        return Interval(mean, None, None, n, 1, "none")
    if np.ptp(points) == 0:  # no spread: both intervals shrink to the mean, and resampling would be degenerate
        return Interval(mean, mean, mean, n, units, "t")
    tail = (1 - level) / 2
    quantile = stats.t.ppf(1 - tail, units - 1)
    if units < ENOUGH_TO_RESAMPLE:
        half = quantile * points.std(ddof=1) / np.sqrt(units)
        return Interval(mean, float(mean - half), float(mean + half), n, units, "t")
    expanded = 1 - 2 * stats.norm.sf(np.sqrt(units / (units - 1)) * quantile)
    drawn = stats.bootstrap(
        (points,),
        np.mean,
        confidence_level=expanded,
        n_resamples=RESAMPLES,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    return Interval(mean, float(drawn.low), float(drawn.high), n, units, "bootstrap")


def paired_difference(a: Mapping[Unit, float], b: Mapping[Unit, float]) -> Interval:
    """Interval of the mean of a - b over the (task, seed) units that both have; `n` counts those pairs."""
    return mean_interval({unit: a[unit] - b[unit] for unit in a if unit in b})


def p_value(
    values: Mapping[Unit, float], alternative: Literal["two-sided", "greater", "less"] = "two-sided"
) -> float | None:
    """p-value of Student's t-test that the mean over tasks is zero; None for a single unit.

    The test is paired if the values are differences. If all units agree exactly there is no spread to test against, and
    the p-value is that of the sign test.
    """
    points = _unit_means(values)
    if len(points) < 2:
        return None
    if np.ptp(points) == 0:
        above = int((points > 0).sum())
        known = int((points != 0).sum())
        return float(stats.binomtest(above, known, alternative=alternative).pvalue) if known else 1.0
    t = points.mean() / (points.std(ddof=1) / np.sqrt(len(points)))
    found = {"greater": t, "less": -t, "two-sided": abs(t)}[alternative]
    return float(stats.t.sf(found, len(points) - 1) * (2 if alternative == "two-sided" else 1))


def holm(p_values: Mapping[Name, float]) -> dict[Name, float]:
    """Adjusted p-values: rejecting those below a level has at most that chance of any false rejection.

    Source: S. Holm, "A simple sequentially rejective multiple test procedure", Scand. J. Statist. 6 (1979).
    """
    names = sorted(p_values, key=lambda name: p_values[name])
    scaled = (min(1.0, (len(names) - rank) * p_values[name]) for rank, name in enumerate(names))
    return dict(zip(names, accumulate(scaled, max), strict=True))


def among_random(pairs: Sequence[tuple[float, np.ndarray]]) -> float:
    """One-sided permutation test of values against random ones: the chance that their mean is this high by luck.

    If there is no difference, the value of a unit is exchangeable with its random ones. All ways of choosing one per
    unit are counted if there are at most 2^16, otherwise `RESAMPLES` of them are drawn. For a single unit the result is
    (1 + random values at least as large) / (1 + random values).

    Args:
        pairs: per unit, its value and its random values [n]; higher is better.
    """
    pools = [np.append(others, value) for value, others in pairs]
    observed = sum(value for value, _ in pairs) - 1e-12
    if np.prod([float(len(pool)) for pool in pools]) <= 2**16:
        sums = np.zeros(1)
        for pool in pools:
            sums = (sums[:, None] + pool).ravel()
        return float((sums >= observed).mean())
    rng = np.random.default_rng(0)
    sums = np.sum([rng.choice(pool, RESAMPLES) for pool in pools], axis=0)
    return float((1 + (sums >= observed).sum()) / (1 + RESAMPLES))


def detectable(differences: Sequence[Mapping[Unit, float]]) -> float | None:
    """The smallest true mean at which two-sided tests at 5 % detect all these differences with the power `POWER`.

    It follows from the spread between units, by the noncentral t distribution. The chances of missing each of several
    differences with the same true mean are added up, so that the power is a lower bound. None if a difference has fewer
    than two units, or if none has any spread.
    """
    points = [_unit_means(values) for values in differences]
    if not points or any(len(found) < 2 for found in points):
        return None
    errors = [float(found.std(ddof=1) / np.sqrt(len(found))) for found in points]
    if not any(errors):
        return None

    def surplus(effect: float) -> float:
        known = zip(errors, points, strict=True)
        return 1 - POWER - sum(_missed(effect / error, len(found)) for error, found in known if error > 0)

    enough = max(errors)
    while surplus(enough) < 0:
        enough *= 2
    return float(optimize.brentq(surplus, 0, enough))


def log_loss_area(steps: list[int], losses: list[float]) -> float:
    """Mean of log(loss + FLOOR) over the run, by the trapezoidal rule: learning speed in one number, lower is better.

    Natural logarithm; losses in nats per target token. It rests on the whole curve and is therefore two to three times
    less noisy than the final loss. The definition is this project's own.

    Raises:
        DataError: fewer than two evaluations, steps that do not increase, or a loss that is not finite.
    """
    x, y = np.asarray(steps, float), np.asarray(losses, float)
    if len(x) < 2 or len(x) != len(y) or (np.diff(x) <= 0).any() or not np.isfinite(y).all():
        raise DataError(f"learning curve has steps {steps} and losses {losses}; expected at least two finite points")
    return float(np.trapezoid(np.log(y + FLOOR), x) / (x[-1] - x[0]))


def _missed(shift: float, units: int) -> float:
    """Chance that a two-sided t-test misses a true mean of `shift` standard errors, or gets its sign wrong."""
    bound = stats.t.ppf(0.5 + LEVEL / 2, units - 1)
    return float(np.nan_to_num(stats.nct.cdf(bound, units - 1, shift)))  # scipy returns NaN where it is nearly zero


def _unit_means(values: Mapping[Unit, float]) -> np.ndarray:
    groups: dict[Hashable, list[float]] = {}
    several_tasks = len({task for task, _ in values}) > 1
    for unit, value in values.items():
        groups.setdefault(unit[0] if several_tasks else unit, []).append(value)
    return np.array([np.mean(group) for group in groups.values()])
