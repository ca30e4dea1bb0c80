"""How far scores can be believed: examples are dealt into folds, whose means are independent measurements of one thing.

The mean of all folds is the score, their spread its standard error. A circuit chosen from half of the folds and one
chosen from the other half tell how repeatable a map is. A circuit chosen from all folds but one, and valued by that
one, tells without bias whether it is worth more than another. The definitions are our own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from .scores import Scores

FOLDS = 8
HALVES = ((0, 1, 2, 3), (0, 1, 4, 5), (0, 2, 4, 6))
"""Three ways of halving the folds; any two of them have a quarter of the folds in common."""
MEMORY = 4.0
"""Examples of older snapshots count for at most so many times as much as those of the newest, all together."""
DOUBT = 0.05
"""One-sided error of the interval that a gain has to exceed zero with."""
QUANTILE = float(stats.t.ppf(1 - DOUBT, FOLDS - 1))

Choose = Callable[[np.ndarray], np.ndarray]
"""Magnitudes [n_components] -> positions of the components of a circuit."""


@dataclass(frozen=True, eq=False)
class Folds:
    """Mean scores of disjoint groups of examples.

    Attributes:
        means: float32 [FOLDS, n_components], signed.
        weights: float64 [FOLDS], how many examples each stands for, more than 0.
    """

    means: np.ndarray
    weights: np.ndarray

    @classmethod
    def of(cls, samples: np.ndarray) -> Folds | None:
        """Deal samples [m, n_components] out in turn; None if there are not enough for every fold."""
        if len(samples) < FOLDS:
            return None
        parts = [samples[i::FOLDS] for i in range(FOLDS)]
        means = np.stack([part.mean(0) for part in parts]).astype(np.float32)
        return cls(means, np.array([len(part) for part in parts], np.float64))

    @property
    def mean(self) -> np.ndarray:
        """Mean score over all examples: float64 [n_components]."""
        return np.average(self.means, 0, self.weights)

    @property
    def variance(self) -> np.ndarray:
        """Squared standard error of `mean`, from the spread of the folds: float64 [n_components]."""
        share = self.weights / self.weights.sum()
        return (share[:, None] * (self.means - self.mean) ** 2).sum(0) / (FOLDS - 1)

    def scores(self) -> Scores:
        return Scores(self.mean.astype(np.float32), np.sqrt(self.variance).astype(np.float32))

    def pooled(self, newer: Folds) -> Folds:
        """These scores and newer ones of other examples, the older ones discounted by how far scores have moved since.

        D, the squared distance that the means have moved, is the mean inner product of the differences of two folds,
        which noise leaves at zero; only what exceeds the error of its jackknife counts as moved. That is drift, which
        adds to the variance of the older scores: each then counts V / (V + D) as much as before, V being their variance
        (both summed over components), as in a local-level model (Durbin and Koopman 2012, chapter 2). Drift too slow to
        be certain must not add up: no more than `MEMORY` times the newest examples are remembered.
        """
        moved, variance = _squared_distance(newer.means - self.means), float(self.variance.sum())
        kept = self.weights * (variance / (variance + moved) if variance + moved > 0 else 1.0)
        kept *= min(1.0, MEMORY * newer.weights.sum() / kept.sum()) if kept.sum() else 1.0
        weights = kept + newer.weights
        means = (kept[:, None] * self.means + newer.weights[:, None] * newer.means) / weights[:, None]
        return Folds(means.astype(np.float32), weights)

    def agreement(self, choose: Choose) -> float:
        """Share of a circuit that two halves of the examples have in common, in [0, 1]: its repeatability."""
        found = []
        for half in HALVES:
            rest = [i for i in range(FOLDS) if i not in half]
            one, other = (choose(np.abs(np.average(self.means[part], 0, self.weights[part])))
                          for part in (list(half), rest))  # fmt: skip
            found.append(len(np.intersect1d(one, other)) / max(len(one), len(other)))
        return float(np.mean(found))

    def shifted(self, errors: np.ndarray) -> Folds:
        """With `errors` [n_components] of the scores put right; what they say of one another stays."""
        return Folds(self.means + np.asarray(errors, np.float32), self.weights)

    def gain(self, choose: Choose, current: Sequence[int]) -> tuple[float, float]:
        """What a circuit chosen anew is worth beyond the current one, as a share of the latter: (mean, lower bound).

        Each fold values a circuit that was chosen without it; the sign of a component is that of the other folds, so
        that noise is worth nothing on average. The circuits have most of their examples in common, which the error
        allows for (Nadeau and Bengio, Machine Learning 52, 2003).

        Args:
            current: positions of its components.
        """
        gains, held = [], []
        for i in range(FOLDS):
            rest = [j for j in range(FOLDS) if j != i]
            others = np.average(self.means[rest], 0, self.weights[rest])
            value = np.sign(others) * self.means[i]
            held.append(value[list(current)].sum())
            gains.append(value[choose(np.abs(others))].sum() - held[-1])
        scale = float(np.mean(held))
        if scale <= 0:  # nothing is left of the current circuit, so anything would be worth more
            scale = float(np.mean(np.abs(held))) or 1.0
        mean, error = float(np.mean(gains)), float(np.std(gains, ddof=1)) * np.sqrt(1 / FOLDS + 1 / (FOLDS - 1))
        return mean / scale, (mean - QUANTILE * error) / scale

    def state(self) -> dict[str, np.ndarray]:
        return {"means": self.means, "weights": self.weights}

    @classmethod
    def from_state(cls, arrays: Mapping[str, np.ndarray]) -> Folds | None:
        """Inverse of `state`; None for no arrays."""
        return cls(arrays["means"], arrays["weights"]) if arrays else None


def _squared_distance(differences: np.ndarray) -> float:
    """Squared length of the mean of `differences` [FOLDS, n_components], as far as it is certain; at least 0."""
    products = differences.astype(np.float64) @ differences.T.astype(np.float64)
    np.fill_diagonal(products, 0)  # where a fold's noise meets itself
    rows, m = products.sum(1), FOLDS
    without = (rows.sum() - 2 * rows) / ((m - 1) * (m - 2))
    error = np.sqrt((m - 1) / m * ((without - without.mean()) ** 2).sum())
    return max(0.0, float(rows.sum() / (m * (m - 1)) - QUANTILE * error))
