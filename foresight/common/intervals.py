"""Means and paired differences with intervals and tests that keep their word when runs are few or share a task.

The independent unit is the task where there are several (seeds of one task are averaged first: they share its
difficulty, so counting them as independent would make intervals too narrow), else the seed. With at least
`ENOUGH_TO_RESAMPLE` units the interval is a percentile bootstrap (`scipy.stats.bootstrap`) at the expanded level of
Hesterberg, "What Teachers Should Know About the Bootstrap" (arXiv 1411.5279), which corrects its narrowness at small
n. A resampled mean never leaves the range of its points, so with n < 6 points no bootstrap can
cover 95 %: at most 1 - 2^(1-n). There Student's t-interval of the same unit means is given instead. One unit has no
interval: `low` and `high` are None.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar

import numpy as np
from scipy import optimize, stats

from .errors import DataError

LEVEL = 0.95
POWER = 0.8
FLOOR = 0.01
"""Nats added to a loss before its logarithm is taken, so that losses near zero do not decide everything."""

RESAMPLES = 4999
ENOUGH_TO_RESAMPLE = 6

Unit = tuple[str, Any]
"""(task, replicate): what two arms are paired over; a replicate is a seed, or a base model and a seed."""


Name = TypeVar("Name", bound=Hashable)


@dataclass(frozen=True)
class Interval:
    """A mean with its 95 % interval. `n`: runs averaged; `units`: independent units the interval rests on."""

    mean: float | None
    low: float | None
    high: float | None
    n: int
    units: int
    method: Literal["bootstrap", "t", "none"]

    @property
    def decided(self) -> int:
        """1 if the whole interval is above zero, -1 if below, 0 if it holds zero or does not exist.

        A few units that agree exactly decide nothing either: accuracies are multiples of 1/examples, so that two
        differences are often equal by chance, and an interval of no width claims what nobody can know.
        """
        if self.low is None or self.high is None:
            return 0
        if self.low == self.high and self.units < ENOUGH_TO_RESAMPLE:
            return 0
        return int(self.low > 0) - int(self.high < 0)

    def within(self, least: float, most: float) -> Interval:
        """The same interval, cut to the values that are possible at all."""
        if self.low is None or self.high is None:
            return self
        return replace(self, low=max(least, self.low), high=min(most, self.high))


def mean_interval(values: Mapping[Unit, float], level: float = LEVEL, seed: int = 0) -> Interval:
    """Mean over tasks of the mean over seeds, with its interval.

    Args:
        values: one finite number per (task, seed).
        level: coverage of the interval.
        seed: of the resampling; the same input gives the same interval.

    Raises:
        DataError: a value is not finite (a diverged run must be left out and reported, not averaged).
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
    if np.ptp(points) == 0:  # no spread: both intervals shrink to the mean, and a resampling would be degenerate
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
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return Interval(mean, float(drawn.low), float(drawn.high), n, units, "bootstrap")


def paired_difference(
    a: Mapping[Unit, float], b: Mapping[Unit, float], level: float = LEVEL, seed: int = 0
) -> Interval:
    """Interval of the mean of a - b over the (task, seed) units that both have; n counts those pairs."""
    return mean_interval({unit: a[unit] - b[unit] for unit in a if unit in b}, level, seed)


def p_value(
    values: Mapping[Unit, float], alternative: Literal["two-sided", "greater", "less"] = "two-sided"
) -> float | None:
    """Student's t-test that the mean over tasks is zero (paired, where the values are differences); None for one unit.

    Where all units agree exactly there is no spread to test against; then it is the p-value of the sign test.
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
    """Adjusted p-values: those below a level can be called found with that chance of any false one among them all.

    Source: S. Holm, "A simple sequentially rejective multiple test procedure", Scand. J. Statist. 6 (1979).
    """
    adjusted: dict[Name, float] = {}
    largest = 0.0
    for rank, name in enumerate(sorted(p_values, key=lambda name: p_values[name])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[name]))
        adjusted[name] = largest
    return adjusted


def among_random(pairs: Sequence[tuple[float, np.ndarray]], seed: int = 0) -> float:
    """One-sided permutation test of values against random ones: the chance that their mean is as high by luck.

    Within each pair every value is as likely to be the one in question, if there is no difference. All ways of choosing
    one from each are counted where they are at most 2^16, otherwise `RESAMPLES` of them are drawn. Of a single pair it
    is (1 + others at least as large) / (1 + others).

    Args:
        pairs: a value, and the random ones [n] of the same unit; higher is better.
    """
    pools = [np.append(others, value) for value, others in pairs]
    observed = sum(value for value, _ in pairs) - 1e-12
    if np.prod([float(len(pool)) for pool in pools]) <= 2**16:
        sums = np.zeros(1)
        for pool in pools:
            sums = (sums[:, None] + pool).ravel()
        return float((sums >= observed).mean())
    rng = np.random.default_rng(seed)
    sums = np.sum([rng.choice(pool, RESAMPLES) for pool in pools], axis=0)
    return float((1 + (sums >= observed).sum()) / (1 + RESAMPLES))


def detectable(differences: Sequence[Mapping[Unit, float]], power: float = POWER) -> float | None:
    """The smallest true mean at which a two-sided test at 5 % finds every one of these differences.

    It follows from the spread between units alone, by the noncentral t distribution. Of several differences with the
    same true mean, all are found with at least that power: their chances of being missed are added up. None where a
    difference has fewer than two units, or none has a spread.
    """
    points = [_unit_means(values) for values in differences]
    if not points or any(len(found) < 2 for found in points):
        return None
    errors = [float(found.std(ddof=1) / np.sqrt(len(found))) for found in points]
    if not any(errors):
        return None

    def surplus(effect: float) -> float:
        known = zip(errors, points, strict=True)
        return 1 - power - sum(_missed(effect / error, len(found)) for error, found in known if error > 0)

    enough = max(errors)
    while surplus(enough) < 0:
        enough *= 2
    return float(optimize.brentq(surplus, 0, enough))


def log_loss_area(steps: list[int], losses: list[float], floor: float = FLOOR) -> float:
    """Mean over the run of log(loss + floor), by trapezoids between evaluations: learning speed in one number.

    Lower is better; natural logarithm; losses in nats per target token. The definition is this project's own. It is
    two to three times less noisy than the final loss, because it rests on the whole curve.

    Raises:
        DataError: fewer than two evaluations, steps that do not increase, or a loss that is not finite.
    """
    x, y = np.asarray(steps, float), np.asarray(losses, float)
    if len(x) < 2 or len(x) != len(y) or (np.diff(x) <= 0).any() or not np.isfinite(y).all():
        raise DataError(f"learning curve has steps {steps} and losses {losses}; expected at least two finite points")
    return float(np.trapezoid(np.log(y + floor), x) / (x[-1] - x[0]))


def _missed(shift: float, units: int) -> float:
    """Chance that a two-sided t-test misses a true mean of `shift` standard errors, or finds it with the wrong sign."""
    bound = stats.t.ppf(0.5 + LEVEL / 2, units - 1)
    return float(np.nan_to_num(stats.nct.cdf(bound, units - 1, shift)))  # scipy has no value where it is nearly zero


def _unit_means(values: Mapping[Unit, float]) -> np.ndarray:
    groups: dict[Hashable, list[float]] = {}
    several_tasks = len({task for task, _ in values}) > 1
    for unit, value in values.items():
        groups.setdefault(unit[0] if several_tasks else unit, []).append(value)
    return np.array([np.mean(group) for group in groups.values()])
