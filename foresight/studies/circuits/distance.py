"""Circuit distance between two steps, with its floor and interval."""

from __future__ import annotations

import numpy as np

from ...trajectory.metrics import circuit_distances, distance_groups, in_circuit
from .floors import Floor, Measured, Statistic, measure_distance

PARTS = ("jaccard", "wasserstein")


def distance_statistic(k: int, layer: np.ndarray, kind: np.ndarray) -> Statistic:
    """`circuit_distances` for `foresight.studies.circuits.floors`: [replicates, groups x 2], group by group."""
    return lambda a, b: circuit_distances(a, b, k, layer, kind).reshape(len(a), -1)


def overlap_statistic(k: int) -> Statistic:
    """`foresight.trajectory.metrics.overlap` of the |scores| of every pair of rows: [replicates]."""
    return lambda a, b: (in_circuit(np.abs(a), k) & in_circuit(np.abs(b), k)).sum(1) / k


def measured_distance(
    samples_a: np.ndarray,
    samples_b: np.ndarray,
    k: int,
    layer: np.ndarray,
    kind: np.ndarray,
    floor: Floor | None = None,
    seed: int = 0,
) -> dict[str, dict[str, Measured]]:
    """Circuit distance between the mean scores of two steps on one probe.

    Args:
        samples_a, samples_b: [n_examples, n_components], the same examples.
        k, layer, kind: as `foresight.trajectory.metrics.circuit_distance`.
        floor: of `distance_statistic`; None takes the higher split-half floor of the two steps. Give one to compute it
            once a step, or to measure against two runs that differ in their order of data.

    Returns:
        "all" and each kind -> "jaccard" and "wasserstein" -> value.
    """
    statistic = distance_statistic(k, layer, kind)
    numbers = iter(measure_distance(statistic, samples_a, samples_b, floor, seed))
    return {group: {part: next(numbers) for part in PARTS} for group in distance_groups(kind)}
