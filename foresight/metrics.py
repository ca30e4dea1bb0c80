"""How circuits differ between steps and how good a forecast was. NumPy and SciPy only; nothing here needs the model.

The literature names circuit distance without an equation; the definitions here are this project's own. Scores are
arrays [n_components]; the circuit is their top k, equal scores taken in table order.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import spearmanr, wasserstein_distance

from .errors import ConfigError, NonFiniteError


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


def jaccard(a: np.ndarray, b: np.ndarray, k: int) -> float:
    """Jaccard index (intersection over union) of two top-k sets, in [0, 1]."""
    shared = overlap(a, b, k)
    return shared / (2 - shared)


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
    """Share of newcomers (in the actual top k, not in today's) that the predicted top k has; NaN without newcomers."""
    newcomers = np.setdiff1d(top_k(actual, k), top_k(today, k))
    if not len(newcomers):
        return float("nan")
    return float(np.isin(newcomers, top_k(prediction, k)).mean())


@dataclass(frozen=True)
class CircuitDistance:
    """Distances between the circuits of two steps; both are 0 for equal circuits and at most 1.

    Attributes:
        jaccard: 1 - Jaccard index of the top-k sets.
        wasserstein: Wasserstein-1 distance of the normalised |score| distributions over relative depth.
    """

    jaccard: float
    wasserstein: float


def circuit_distance(
    a: np.ndarray, b: np.ndarray, k: int, layer: np.ndarray, kind: np.ndarray
) -> dict[str, CircuitDistance]:
    """How far the circuit moved between two steps (own definition), under "all" and under each kind.

    The Wasserstein-1 distance is between the distributions that put |score| / sum of |scores| at depth layer / L,
    with L the number of layers: moving the whole circuit from the first to the last layer costs (L - 1) / L. Scores
    that are all zero count as uniform. By kind, the top-k sets are the overall ones restricted to that kind (two
    empty sets have distance 0), and |scores| are normalised within the kind.

    Args:
        a, b: scores of the two steps, [n_components]; signs are ignored.
        k: size of the circuit.
        layer: int [n_components], 0-based; L is its maximum + 1.
        kind: string [n_components].

    Raises:
        ConfigError: shapes that differ, k out of range.
        NonFiniteError: a score is NaN or infinite.
    """
    a, b = (np.abs(scores) for scores in _checked(a, b))
    if not len(a) == len(layer) == len(kind):
        raise ConfigError(f"{len(a)} scores, {len(layer)} layers, {len(kind)} kinds; expected one per component")
    depth = np.asarray(layer) / (np.max(layer) + 1)
    in_a, in_b = (np.isin(np.arange(len(a)), top_k(scores, k)) for scores in (a, b))

    def distance(group: np.ndarray) -> CircuitDistance:
        union = (in_a | in_b)[group].sum()
        moved = float((in_a ^ in_b)[group].sum() / union) if union else 0.0
        weights = [scores[group] if scores[group].any() else np.ones(group.sum()) for scores in (a, b)]
        return CircuitDistance(moved, float(wasserstein_distance(depth[group], depth[group], *weights)))

    groups = {"all": np.ones(len(a), bool), **{str(name): np.asarray(kind) == name for name in np.unique(kind)}}
    return {name: distance(group) for name, group in groups.items()}


def _checked(*arrays: np.ndarray) -> list[np.ndarray]:
    """The arrays as float64, all one-dimensional, not empty, of one length and finite."""
    checked = [np.asarray(array, np.float64) for array in arrays]
    shapes = {array.shape for array in checked}
    if len(shapes) != 1 or checked[0].ndim != 1 or not len(checked[0]):
        found = [array.shape for array in checked]
        raise ConfigError(f"scores have shapes {found}; expected one shape, [n_components]")
    if not all(np.isfinite(array).all() for array in checked):
        raise NonFiniteError("some scores are NaN or infinite; metrics need finite ones")
    return checked
