"""Noise floors and intervals of whatever is computed from mean scores, by resampling the examples of the probe.

Everything here starts from samples [n_examples, n] (`Scorer.samples`: a row an example) and knows one kind of
statistic: a function of their mean over examples. It gets the means of many replicates at once, float64
[replicates, n], and returns a row (or a number) for each; NaN stands for "undefined". `each_row` makes such a function
of one that knows single rows.

The *split-half floor* of a distance is the distance between the means of two random halves of the probe at one step,
where nothing has moved. Halves have half the examples: under independent errors the difference of their means has
twice the variance of the difference between two steps that were scored on the whole probe, and more than twice if the
steps share the probe, as they do here. No correction is made for it, because there is none that holds for set distances
and for transport distances alike; the floor is therefore too high rather than too low. Of a quantity that is a level
(a faithfulness, say) the floor is how far the two halves put it apart: smaller changes mean nothing.

The *bootstrap* (percentile intervals, at the expanded level of Hesterberg, arXiv 1411.5279, against their narrowness at
small n) draws examples with replacement, the same ones for all samples of a call. The resampled value of a distance
carries the noise of the sample and that of the resampling: where nothing moves, its interval lies above zero and often
above the value itself. That an interval excludes zero therefore says nothing of a distance; compare it to the floor.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass

import numpy as np
from scipy import stats

from ...common.errors import ConfigError, NonFiniteError

LEVEL = 0.95
RESAMPLES = 400
SPLITS = 100

Statistic = Callable[..., np.ndarray]
"""Of the means of one or several samples, float64 [replicates, n] each, an array [replicates, ...]."""


@dataclass(frozen=True)
class Measured:
    """A number that is never shown alone.

    Attributes:
        value: from the whole probe; NaN if undefined.
        low, high: bootstrap interval over examples at `LEVEL`; NaN if too many resamples are undefined.
        floor: mean over random halves of the probe of what a distance reads where nothing moved, or, of a level, of
            how far the halves put it apart.
        floor_high: the `LEVEL` quantile of the same.
    """

    value: float
    low: float
    high: float
    floor: float
    floor_high: float

    @property
    def beyond_floor(self) -> bool:
        """Of a distance: whether it is larger than noise alone would make it; False if either is undefined."""
        return self.value > self.floor_high


UNDEFINED = Measured(*[float("nan")] * 5)


@dataclass(frozen=True, eq=False)
class MeasuredMatrix:
    """`Measured` of every pair (of steps, of tasks): float64 [m, m] each, NaN where unknown."""

    value: np.ndarray
    low: np.ndarray
    high: np.ndarray
    floor: np.ndarray
    floor_high: np.ndarray

    @classmethod
    def of(cls, cells: Sequence[Sequence[Measured]]) -> MeasuredMatrix:
        """From m rows of m numbers."""
        numbers = np.array([[astuple(cell) for cell in row] for row in cells], np.float64)
        return cls(*np.moveaxis(numbers, -1, 0))


@dataclass(frozen=True, eq=False)
class Floor:
    """Mean and `LEVEL` quantile of a floor, arrays of the statistic's shape."""

    mean: np.ndarray
    high: np.ndarray


def each_row(function: Callable[..., float | np.ndarray]) -> Statistic:
    """Make a statistic of a function of single mean scores [n] that returns a number or an array."""
    return lambda *means: np.stack([np.asarray(function(*rows), np.float64) for rows in zip(*means, strict=True)])


def resampling_weights(n_examples: int, resamples: int = RESAMPLES, seed: int = 0) -> np.ndarray:
    """Share of each example in bootstrap resamples, float64 [resamples, n_examples]; every row sums to 1.

    Raises:
        ConfigError: fewer than two examples.
    """
    _check_examples(n_examples)
    shares = np.full(n_examples, 1 / n_examples)
    return np.random.default_rng(seed).multinomial(n_examples, shares, size=resamples) / n_examples


def half_weights(n_examples: int, splits: int = SPLITS, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Share of each example in two random halves, float64 [splits, n_examples] each.

    Of an odd number one example sits out each time. Raises ConfigError as `resampling_weights`.
    """
    _check_examples(n_examples)
    half = n_examples // 2
    place = np.random.default_rng(seed).permuted(np.tile(np.arange(n_examples), (splits, 1)), axis=1)
    return (place < half) / half, ((place >= half) & (place < 2 * half)) / half


def resampled_means(samples: np.ndarray, resamples: int = RESAMPLES, seed: int = 0) -> np.ndarray:
    """Means of bootstrap resamples, float64 [resamples, n].

    Equal numbers of examples, `resamples` and seed give the same draws, whatever the samples: arrays that share their
    examples are resampled together.

    Raises:
        ConfigError, NonFiniteError: samples that are not finite [n_examples, n] with at least two examples.
    """
    samples = _checked(samples)
    return resampling_weights(len(samples), resamples, seed) @ samples


def split_half_floor(distance: Statistic, samples: np.ndarray, splits: int = SPLITS, seed: int = 0) -> Floor:
    """What `distance` (of two means) reads between random halves of the probe at one step; see above for its bias."""
    return floor_of(distance(*_half_means(samples, splits, seed)))


def between_run_floor(distance: Statistic, scores_a: np.ndarray, scores_b: np.ndarray) -> Floor:
    """The distance, at one step, between two runs that differ in their order of data alone; scores [n] each.

    One pair of runs has no spread, so mean and quantile are the same number.
    """
    between = np.asarray(distance(scores_a[None], scores_b[None]), np.float64)[0]
    return Floor(between, between)


def bootstrap(
    statistic: Statistic, *samples: np.ndarray, resamples: int = RESAMPLES, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Low and high end of the interval of a statistic of one or several samples that share their examples."""
    _check_shared(samples)
    drawn = statistic(*(resampled_means(one, resamples, seed) for one in samples))
    return interval(drawn, len(samples[0]))


def interval(replicates: np.ndarray, n_examples: int) -> tuple[np.ndarray, np.ndarray]:
    """Percentile interval of replicates [resamples, ...], at `LEVEL`.

    Undefined replicates are left out; where more than 1 - `LEVEL` of them are, there is no interval and both ends are
    NaN.
    """
    tail = stats.norm.sf(np.sqrt(n_examples / (n_examples - 1)) * stats.t.isf((1 - LEVEL) / 2, n_examples - 1))
    return _quantile(replicates, tail), _quantile(replicates, 1 - tail)


def measure(statistic: Statistic, samples: np.ndarray, seed: int = 0) -> list[Measured]:
    """A level: `statistic` of the mean, [replicates, m] or [replicates], with interval and floor.

    Returns:
        m entries (one for a statistic [replicates]).
    """
    low, high = bootstrap(statistic, samples, seed=seed)
    first, second = (statistic(half) for half in _half_means(samples, SPLITS, seed))
    return _listed(statistic(_mean(samples))[0], low, high, floor_of(np.abs(first - second)))


def measure_distance(
    distance: Statistic, samples_a: np.ndarray, samples_b: np.ndarray, floor: Floor | None = None, seed: int = 0
) -> list[Measured]:
    """A distance, [replicates, m] or [replicates], between the mean scores of two steps on the same probe.

    Args:
        floor: None takes the higher of the split-half floors of the two steps, entry by entry.

    Returns:
        m entries (one for a distance [replicates]).
    """
    low, high = bootstrap(distance, samples_a, samples_b, seed=seed)
    if floor is None:
        floor = higher(*(split_half_floor(distance, one, seed=seed) for one in (samples_a, samples_b)))
    return _listed(distance(_mean(samples_a), _mean(samples_b))[0], low, high, floor)


def higher(a: Floor, b: Floor) -> Floor:
    """The higher of two floors, entry by entry."""
    return Floor(np.maximum(a.mean, b.mean), np.maximum(a.high, b.high))


def floor_of(replicates: np.ndarray) -> Floor:
    """Summary of distances between halves, [splits, ...]; NaN where more than 1 - `LEVEL` of them are undefined."""
    high = _quantile(replicates, LEVEL)
    defined = np.isfinite(replicates)
    total = np.where(defined, replicates, 0.0).sum(0)
    return Floor(np.where(np.isnan(high), np.nan, total / np.maximum(defined.sum(0), 1)), high)


def _mean(samples: np.ndarray) -> np.ndarray:
    return np.asarray(samples, np.float64).mean(0, keepdims=True)


def _half_means(samples: np.ndarray, splits: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    samples = _checked(samples)
    first, second = half_weights(len(samples), splits, seed)
    return first @ samples, second @ samples


def _quantile(replicates: np.ndarray, q: float) -> np.ndarray:
    """Quantile over the finite replicates; NaN where more than 1 - `LEVEL` of them are not."""
    undefined = ~np.isfinite(replicates)
    hopeless = undefined.mean(0) > 1 - LEVEL
    known = np.where(undefined & ~hopeless, np.nan, np.where(undefined, 0.0, replicates))
    return np.where(hopeless, np.nan, np.nanquantile(known, q, axis=0))


def _listed(value: np.ndarray, low: np.ndarray, high: np.ndarray, floor: Floor) -> list[Measured]:
    columns = (np.atleast_1d(a).tolist() for a in (value, low, high, floor.mean, floor.high))
    return [Measured(*row) for row in zip(*columns, strict=True)]


def _checked(samples: np.ndarray) -> np.ndarray:
    samples = np.asarray(samples, np.float64)
    if samples.ndim != 2 or not samples.shape[1]:
        raise ConfigError(f"samples have shape {samples.shape}; expected [n_examples, n], a row per example")
    _check_examples(len(samples))
    if not np.isfinite(samples).all():
        raise NonFiniteError("some samples are NaN or infinite; floors and intervals need finite ones")
    return samples


def _check_examples(n: int) -> None:
    if n < 2:
        raise ConfigError(
            f"there are {n} examples to resample; expected at least two: use a larger probe, or a scorer that keeps a "
            "row per example"
        )


def _check_shared(samples: tuple[np.ndarray, ...]) -> None:
    counts = [len(one) for one in samples]
    if len(set(counts)) > 1:
        raise ConfigError(f"samples have {counts} examples; expected the same examples in all, to resample together")
