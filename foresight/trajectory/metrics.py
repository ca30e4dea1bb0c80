"""How good a forecast was. Scores are arrays [n_components]; the circuit is their top k, ties in table order."""

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
