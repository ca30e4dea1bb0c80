"""Distances between two steps: of circuits and of ranks; and how much of a circuit distance exceeds noise.

The *excess* (own definition) is the part of a distance that movement alone explains. With A and B random halves of the
probe,

    excess(s, t) = mean of d(A_s, B_t) and d(B_s, A_t) - mean of d(A_s, B_s) and d(A_t, B_t),   averaged over splits.

All four terms compare disjoint halves, so they carry the same noise and it cancels: where nothing moves the excess is
zero on average. The distance on the whole probe minus its split-half floor is not centred in this way, because that
floor is too high (see `foresight.studies.circuits.floors`).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations_with_replacement

import numpy as np
from scipy.stats import rankdata

from ...trajectory.distances import circuit_distances, in_circuit
from .floors import UNDEFINED, Measured, Statistic, higher, interval, measured, resampled_means, split_half_floor

PARTS = ("jaccard", "wasserstein")


def distance_statistic(k: int, layer: np.ndarray, kind: np.ndarray) -> Statistic:
    """`circuit_distances` as a statistic: [replicates, groups x 2], the `PARTS` of each group in turn."""
    return lambda a, b: circuit_distances(a, b, k, layer, kind).reshape(len(a), -1)


def overlap_statistic(k: int) -> Statistic:
    """`foresight.trajectory.metrics.overlap` of the |scores| of each pair of rows: [replicates]."""
    return lambda a, b: (in_circuit(np.abs(a), k) & in_circuit(np.abs(b), k)).sum(1) / k


def across_and_within(
    statistic: Statistic, a: tuple[np.ndarray, np.ndarray], b: tuple[np.ndarray, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Mean of a statistic between halves of two steps, and between the two halves of one, averaged over both steps; `a`
    and `b` are the `half_means` of the steps.
    """
    across = (statistic(a[0], b[1]) + statistic(a[1], b[0])) / 2
    within = (statistic(*a) + statistic(*b)) / 2
    return across.mean(0), within.mean(0)


def rank_distances(samples: Sequence[np.ndarray] | np.ndarray) -> list[list[Measured]]:
    """1 - Spearman's rho of the mean scores of every pair of steps, a symmetric matrix as rows; NaN where scores are
    constant. The floor is the higher split-half floor of the two steps.

    Args:
        samples: of each step, [n_examples, n_components], the same examples in all.
    """
    n = len(samples)
    values = [_standard_ranks(np.asarray(one, np.float64).mean(0)) for one in samples]
    drawn = [_standard_ranks(resampled_means(one)) for one in samples]
    floors = [split_half_floor(lambda a, b: _apart(_standard_ranks(a), _standard_ranks(b)), one) for one in samples]
    found = [[UNDEFINED] * n for _ in range(n)]
    for s, t in combinations_with_replacement(range(n), 2):
        ends = interval(_apart(drawn[s], drawn[t]), len(samples[s]))
        (found[s][t],) = measured(_apart(values[s], values[t]), ends, higher(floors[s], floors[t]))
        found[t][s] = found[s][t]
    return found


def _standard_ranks(scores: np.ndarray) -> np.ndarray:
    """Ranks along the last axis, centred and of length 1, so that their inner product is Spearman's rho."""
    ranks = rankdata(scores, axis=-1)
    ranks -= ranks.mean(-1, keepdims=True)
    length = np.linalg.norm(ranks, axis=-1, keepdims=True)
    return ranks / np.where(length > 0, length, np.nan)


def _apart(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return 1 - (a * b).sum(-1)
