"""Relative log scores: the scale-free form in which scores are averaged and compared across steps and runs.

The level of a step is its mean score. The relative log score is log(score / level + FLOOR), 0 where a step is all zero.
The floor keeps a zero score finite and makes everything below a thousandth of the mean alike. Own definition.
"""

from __future__ import annotations

import numpy as np

from ..trajectory.series import Series

FLOOR = 1e-3
MOST = 10.0
"""No snapshot counts as more or less noisy than this many times the mean: standard errors are estimates themselves."""


def to_relative(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Relative log scores float32 [n, t] and levels float64 [t] of scores [n, t] >= 0; a level of 0 stays 0."""
    level = values.mean(0, dtype=np.float64)
    logs = values / np.where(level > 0, level, 1).astype(np.float32)
    logs += np.float32(FLOOR)
    np.log(logs, out=logs)
    logs[:, level == 0] = 0
    return logs, level


def from_relative(logs: np.ndarray, level: float) -> np.ndarray:
    """Scores [n] of relative log scores [n] at a level; capped at n levels, the most that one score can be."""
    logs = np.asarray(logs, np.float64)
    return np.maximum(np.exp(np.minimum(logs, np.log(len(logs) + FLOOR))) - FLOOR, 0) * level


class LogScores:
    """The relative log scores of a series step by step, for recursions along the snapshots.

    Attributes:
        values: float32 [t, n], components in canonical order; steps whose scores are all zero are left out.
        time: float64 [t] in cadences.
        cadence: optimizer steps.
        noise: the variance of a score's noise relative to the mean over the snapshots of its component, float64 [t, n],
            where standard errors are known, otherwise float64 [t, 1] of 1.
    """

    def __init__(self, series: Series):
        order = canonical_order(series)
        self._given = np.argsort(order)
        logs, level = to_relative(series.values[order])
        seen = np.flatnonzero(level > 0)
        self.values = np.ascontiguousarray(logs.T[seen])
        self.cadence = series.cadence
        self.time = series.steps[seen] / self.cadence
        self._level = float(level[-1])
        self.noise = np.ones((len(seen), 1))
        if series.stderr is not None:
            self.noise = _noise(np.ascontiguousarray(series.stderr[order].T[seen]) / level[seen, None])

    def scores(self, logs: np.ndarray) -> np.ndarray:
        """Scores [n], in the order of the series, of relative log scores [n] at the level of the last snapshot."""
        return from_relative(logs, self._level)[self._given]


def _noise(stderr: np.ndarray) -> np.ndarray:
    """Relative variances [t, n], 1 where unknown, of standard errors [t, n] relative to the level of their step.

    They are not divided by the scores themselves: a score that is large by chance would seem the more precise.
    """
    variance = stderr**2
    known = np.isfinite(variance)
    mean = np.where(known, variance, 0).sum(0) / np.maximum(known.sum(0), 1)
    return np.clip(np.where(known & (mean > 0), variance / np.where(mean > 0, mean, 1), 1), 1 / MOST, MOST)


def canonical_order(series: Series) -> np.ndarray:
    """Positions sorted by layer, kind, index (then name): results computed in it do not depend on the given order."""
    return np.lexsort((series.name, series.index, series.kind, series.layer))


def sample(n: int, most: int) -> np.ndarray:
    """Positions of at most `most` of n components, sorted, drawn with a fixed seed."""
    return np.arange(n) if n <= most else np.sort(np.random.default_rng(0).permutation(n)[:most])
