"""Relative log scores: the scale-free form in which scores are averaged and compared across steps and runs.

The level of a step is its mean score. The relative log score is log(score / level + FLOOR), 0 where a step is all zero.
The floor keeps a zero score finite and makes everything below a thousandth of the mean alike. Own definition.
"""

from __future__ import annotations

import numpy as np

from ..trajectory.series import Series

FLOOR = 1e-3


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

    def scores(self, logs: np.ndarray) -> np.ndarray:
        """Scores [n], in the order of the series, of relative log scores [n] at the level of the last snapshot."""
        return from_relative(logs, self._level)[self._given]


def canonical_order(series: Series) -> np.ndarray:
    """Positions sorted by layer, kind, index (then name): results computed in it do not depend on the given order."""
    return np.lexsort((series.name, series.index, series.kind, series.layer))


def sample(n: int, most: int) -> np.ndarray:
    """Positions of at most `most` of n components, sorted, drawn with a fixed seed."""
    return np.arange(n) if n <= most else np.sort(np.random.default_rng(0).permutation(n)[:most])
