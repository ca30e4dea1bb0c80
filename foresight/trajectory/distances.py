"""How far circuits moved. The literature names circuit distance without an equation; this definition is our own."""

from __future__ import annotations

import numpy as np


def circuit_distances(a: np.ndarray, b: np.ndarray, k: int, layer: np.ndarray, kind: np.ndarray) -> np.ndarray:
    """How far circuits moved between two steps : Jaccard and Wasserstein-1 distance, in [0, 1].

    The Jaccard distance is 1 - intersection over union of the top-k sets. The Wasserstein-1 distance is between the
    distributions that put |score| / sum of |scores| at depth layer / L, with L the number of layers: moving the whole
    circuit from the first to the last layer costs (L - 1) / L. Scores that are all zero count as uniform. By kind, the
    top-k sets are the overall ones restricted to that kind (two empty sets have distance 0), and |scores| are
    normalised within the kind.

    Args:
        a, b: scores of the two steps, [replicates, n_components], finite; signs are ignored.
        k: size of the circuit.
        layer: int [n_components], 0-based; L is its maximum + 1.
        kind: string [n_components].

    Returns:
        float64 [replicates, groups, 2]: both distances in each of `distance_groups(kind)`.
    """
    a, b = np.abs(a), np.abs(b)
    in_a, in_b = in_circuit(a, k), in_circuit(b, k)
    layers = int(np.max(layer)) + 1
    at_layer = np.asarray(layer)[:, None] == np.arange(layers)
    columns = []
    for name in distance_groups(kind):
        group = np.asarray(kind) == name if name != "all" else np.ones(len(kind), bool)
        union = (in_a | in_b)[:, group].sum(1)
        moved = (in_a ^ in_b)[:, group].sum(1) / np.maximum(union, 1)
        masses = [_shares(scores[:, group]) @ at_layer[group] for scores in (a, b)]
        # In one dimension the Wasserstein-1 distance is the area between the distribution functions.
        columns.append(np.stack([moved, np.abs(np.cumsum(masses[0] - masses[1], 1)).sum(1) / layers], 1))
    return np.stack(columns, 1)


def distance_groups(kind: np.ndarray) -> tuple[str, ...]:
    """The name "all" and each kind, in the order in which distances are given."""
    return ("all", *(str(name) for name in np.unique(kind)))


def in_circuit(scores: np.ndarray, k: int) -> np.ndarray:
    """Which components are among the k largest of each row, ties in table order: bool [replicates, n_components]."""
    inside = np.zeros(scores.shape, bool)
    np.put_along_axis(inside, np.argsort(-scores, axis=1, kind="stable")[:, :k], True, axis=1)
    return inside


def _shares(weights: np.ndarray) -> np.ndarray:
    """Rows divided by their sums; rows of zeros count as uniform."""
    weights = np.where(weights.any(1, keepdims=True), weights, 1.0)
    return weights / weights.sum(1, keepdims=True)
