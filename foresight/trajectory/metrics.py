"""How circuits differ between steps, and how good a forecast was.

The literature names circuit distance without an equation; the definition here is this project's own. Scores are arrays
[n_components]; the circuit is their top k, ties in table order.
"""

from __future__ import annotations

import numpy as np
from scipy.stats import spearmanr

from ..common.errors import ConfigError, NonFiniteError


def top_k(scores: np.ndarray, k: int) -> np.ndarray:
    """Positions of the k largest scores, int64 [k], largest first; ties in table order.

    Raises:
        ConfigError: k outside 1..n_components.
        NonFiniteError: a score is NaN or infinite.
    """
    (scores,) = _checked(scores)
    if not 1 <= k <= len(scores):
        raise ConfigError(f"k is {k}; expected between 1 and the number of components, {len(scores)}")
    return np.argsort(-scores, kind="stable")[:k]


def overlap(a: np.ndarray, b: np.ndarray, k: int) -> float:
    """Share of the top k that two score arrays have in common, in [0, 1]."""
    return len(np.intersect1d(top_k(a, k), top_k(b, k))) / k


def spearman(a: np.ndarray, b: np.ndarray) -> float:
    """Spearman's rho of two score arrays; NaN if one of them is constant, as it is undefined then."""
    a, b = _checked(a, b)
    if len(a) < 2 or a.min() == a.max() or b.min() == b.max():
        return float("nan")
    return float(spearmanr(a, b).statistic)


def skill(prediction: np.ndarray, actual: np.ndarray, persistence: np.ndarray) -> float:
    """1 - (mean absolute error of the prediction) / (mean absolute error of persistence).

    0 is no better than "it stays as it is", 1 is perfect. If persistence makes no error, skill is 0 for a perfect
    prediction and -inf for any other.
    """
    prediction, actual, persistence = _checked(prediction, actual, persistence)
    error, reference = np.abs(prediction - actual).mean(), np.abs(persistence - actual).mean()
    if reference == 0:
        return 0.0 if error == 0 else float("-inf")
    return float(1 - error / reference)


def newcomer_recall(prediction: np.ndarray, actual: np.ndarray, today: np.ndarray, k: int) -> float:
    """Share of newcomers (in the actual top k, not in today's) that are in the predicted top k; NaN without any."""
    newcomers = np.setdiff1d(top_k(actual, k), top_k(today, k))
    if not len(newcomers):
        return float("nan")
    return float(np.isin(newcomers, top_k(prediction, k)).mean())


def circuit_distances(a: np.ndarray, b: np.ndarray, k: int, layer: np.ndarray, kind: np.ndarray) -> np.ndarray:
    """How far circuits moved between two steps (own definition): Jaccard and Wasserstein-1 distance, in [0, 1].

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


def _checked(*arrays: np.ndarray) -> list[np.ndarray]:
    """The arrays as float64. Raises unless all are one-dimensional, not empty, of one length and finite."""
    checked = [np.asarray(array, np.float64) for array in arrays]
    shapes = {array.shape for array in checked}
    if len(shapes) != 1 or checked[0].ndim != 1 or not len(checked[0]):
        found = [array.shape for array in checked]
        raise ConfigError(f"scores have shapes {found}; expected one shape, [n_components]")
    if not all(np.isfinite(array).all() for array in checked):
        raise NonFiniteError("some scores are NaN or infinite; metrics need finite ones")
    return checked
