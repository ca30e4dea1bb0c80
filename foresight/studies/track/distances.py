"""What of a circuit's movement is more than noise.

The *excess* (own definition) is what a distance owes to movement alone. Let A and B be random halves of the probe:

    excess(s, t) = mean of d(A_s, B_t) and d(B_s, A_t) - mean of d(A_s, B_s) and d(A_t, B_t),   averaged over splits.

All four terms compare disjoint halves, so that they carry the same noise and it cancels: where nothing moves the excess
is zero on average, and exactly zero if the samples are the same. The distance on the whole probe minus its split-half
floor has no such centre, as that floor is too high (see `foresight.studies.circuits.floors`).
"""

from __future__ import annotations

import numpy as np

from ..circuits.floors import SPLITS, Statistic, half_weights


def halves(samples: np.ndarray, splits: int = SPLITS, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Means of two random halves of the rows, float64 [splits, n_components] each; the same halves at every step."""
    first, second = half_weights(len(samples), splits, seed)
    return first @ samples, second @ samples


def across_and_within(
    statistic: Statistic, a: tuple[np.ndarray, np.ndarray], b: tuple[np.ndarray, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Mean of a statistic between halves of two steps, and between the halves of one, averaged over both steps.

    Args:
        a, b: `halves` of the two steps.
    """
    across = (statistic(a[0], b[1]) + statistic(a[1], b[0])) / 2
    within = (statistic(*a) + statistic(*b)) / 2
    return across.mean(0), within.mean(0)
