"""Noise floors and intervals of whatever is computed from mean scores, by resampling the examples of the probe.

Everything here starts from samples [n_examples, n] (`Scorer.samples`) and takes a `Statistic` of their means.

The *split-half floor* of a distance is the distance between the means of two random halves of the probe at one step,
where nothing has moved. The difference between halves has at least twice the variance of that between two steps scored
on the whole probe. No correction holds for both set distances and transport distances, so the floor is too high rather
than too low. For a level (a faithfulness, say), the floor is the difference between the two halves.

The *bootstrap* (percentile intervals, at the expanded level of Hesterberg, arXiv 1411.5279, because plain ones are too
narrow at small n) draws examples with replacement, the same ones for all samples of a call. A resampled distance
contains the noise of the sample and that of the resampling, so where nothing moves its interval lies above zero. An
interval that excludes zero therefore proves nothing about a distance; compare it with the floor.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import stats

from ...common.errors import ConfigError, NonFiniteError

LEVEL = 0.95
RESAMPLES = 400
SPLITS = 100

Statistic = Callable[..., np.ndarray]
"""Takes the means of one or several samples, float64 [replicates, n] each; returns an array [replicates, ...], in which
NaN stands for "undefined"."""


@dataclass(frozen=True)
class Measured:
    """A number with its interval and its noise floor.

    Attributes:
        value: from the whole probe; NaN if undefined.
        low, high: bootstrap interval over examples at `LEVEL`; NaN if too many resamples are undefined.
        floor: mean over random splits of the probe: for a distance, its value where nothing moved; for a level, the
            difference between the halves.
        floor_high: the `LEVEL` quantile of the same.
    """

    value: float
    low: float
    high: float
    floor: float
    floor_high: float


UNDEFINED = Measured(*[float("nan")] * 5)

Ends = tuple[np.ndarray, np.ndarray]
"""Two arrays of a statistic's shape: the ends of an interval, or mean and `LEVEL` quantile of a floor."""


def measure(statistic: Statistic, samples: np.ndarray) -> list[Measured]:
    """Measure a level: `statistic` of the mean, [replicates, m] or [replicates]; m entries (or one)."""
    ends = bootstrap(statistic, samples)
    first, second = (statistic(half) for half in half_means(samples))
    return measured(statistic(samples.mean(0, keepdims=True))[0], ends, floor_of(np.abs(first - second)))


def measure_distance(distance: Statistic, a: np.ndarray, b: np.ndarray, floor: Ends) -> list[Measured]:
    """Measure a distance, [replicates, m], between the mean scores of two steps on the same probe: m entries."""
    return measured(distance(a.mean(0, keepdims=True), b.mean(0, keepdims=True))[0], bootstrap(distance, a, b), floor)


def measured(value: np.ndarray | float, ends: Ends, floor: Ends) -> list[Measured]:
    """Numbers with interval and floor, arrays [m] or scalars, as a list."""
    columns = (np.atleast_1d(a).tolist() for a in (value, *ends, *floor))
    return [Measured(*row) for row in zip(*columns, strict=True)]


def bootstrap(statistic: Statistic, *samples: np.ndarray) -> Ends:
    """The interval of a statistic of one or several samples that share their examples."""
    return interval(statistic(*map(resampled_means, samples)), len(samples[0]))


def interval(replicates: np.ndarray, n_examples: int) -> Ends:
    """Percentile interval of replicates [resamples, ...], at `LEVEL`; see `_quantile` for undefined ones."""
    tail = stats.norm.sf(np.sqrt(n_examples / (n_examples - 1)) * stats.t.isf((1 - LEVEL) / 2, n_examples - 1))
    return _quantile(replicates, tail), _quantile(replicates, 1 - tail)


def split_half_floor(distance: Statistic, samples: np.ndarray) -> Ends:
    """The `distance` between the means of random halves of the probe at one step; see above for its bias."""
    return floor_of(distance(*half_means(samples)))


def floor_of(replicates: np.ndarray) -> Ends:
    """Summary of distances between halves, [splits, ...]; NaN where more than 1 - `LEVEL` of them are undefined."""
    high, defined = _quantile(replicates, LEVEL), np.isfinite(replicates)
    total = np.where(defined, replicates, 0.0).sum(0)
    return np.where(np.isnan(high), np.nan, total / np.maximum(defined.sum(0), 1)), high


def higher(a: Ends, b: Ends) -> Ends:
    """The higher of two floors, entry by entry."""
    return np.maximum(a[0], b[0]), np.maximum(a[1], b[1])


def resampled_means(samples: np.ndarray) -> np.ndarray:
    """Means of bootstrap resamples, float64 [resamples, n]; arrays that share their examples are resampled together.

    Raises:
        ConfigError, NonFiniteError: fewer than two examples, or samples that are not finite.
    """
    return resampling_weights(len(samples)) @ _finite(samples)


def half_means(samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means of two random halves, float64 [splits, n] each; the same halves at every step."""
    first, second = half_weights(len(samples))
    return first @ _finite(samples), second @ _finite(samples)


def resampling_weights(n_examples: int, seed: int = 0) -> np.ndarray:
    """Share of each example in bootstrap resamples, float64 [resamples, n_examples]; every row sums to 1."""
    if n_examples < 2:
        raise ConfigError(
            f"there are {n_examples} examples to resample; expected at least two: use a larger probe, or a scorer that "
            "keeps one row per example"
        )
    equal = np.full(n_examples, 1 / n_examples)
    return np.random.default_rng(seed).multinomial(n_examples, equal, size=RESAMPLES) / n_examples


def half_weights(n_examples: int) -> tuple[np.ndarray, np.ndarray]:
    """Share of each example in two random halves, float64 [splits, n_examples] each; an odd one is left out."""
    half = n_examples // 2
    place = np.random.default_rng(0).permuted(np.tile(np.arange(n_examples), (SPLITS, 1)), axis=1)
    return (place < half) / half, ((place >= half) & (place < 2 * half)) / half


def _quantile(replicates: np.ndarray, q: float) -> np.ndarray:
    """Quantile over the finite replicates; NaN where more than 1 - `LEVEL` of them are not finite."""
    undefined = ~np.isfinite(replicates)
    hopeless = undefined.mean(0) > 1 - LEVEL
    known = np.where(undefined, np.where(hopeless, 0.0, np.nan), replicates)
    return np.where(hopeless, np.nan, np.nanquantile(known, q, axis=0))


def _finite(samples: np.ndarray) -> np.ndarray:
    samples = np.asarray(samples, np.float64)
    if not np.isfinite(samples).all():
        raise NonFiniteError("some samples are NaN or infinite; floors and intervals need finite ones")
    return samples
