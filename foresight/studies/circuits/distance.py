"""Circuit distance between two steps: its statistics, and how much of it exceeds noise.

The *excess* (own definition) is the part of a distance that movement alone explains. With A and B random halves of the
probe,

    excess(s, t) = mean of d(A_s, B_t) and d(B_s, A_t) - mean of d(A_s, B_s) and d(A_t, B_t),   averaged over splits.

All four terms compare disjoint halves, so they carry the same noise and it cancels. Where nothing moves the excess is
zero on average, and exactly zero if the samples are identical. The distance on the whole probe minus its split-half
floor is not centred in this way, because that floor is too high (see `foresight.studies.circuits.floors`).
"""

from __future__ import annotations

import numpy as np

from ...trajectory.metrics import circuit_distances, in_circuit
from .floors import Statistic

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
    """Mean of a statistic between halves of two steps, and between the two halves of one, averaged over both steps.

    Args:
        a, b: `half_means` of the two steps.
    """
    across = (statistic(a[0], b[1]) + statistic(a[1], b[0])) / 2
    within = (statistic(*a) + statistic(*b)) / 2
    return across.mean(0), within.mean(0)
