"""What a forecaster is asked about a run, and how good its answer is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np
from sklearn.metrics import ndcg_score

from ...trajectory.metrics import newcomer_recall, overlap, spearman
from ...trajectory.series import Series

CUTOFFS = (0.1, 0.25, 0.5)
"""Shares of the run after which it is asked."""
HORIZONS = (0.1, 0.25, 1.0)
"""How far ahead, as shares of the run; 1 means its end."""
CIRCUIT = 0.1
"""Share of the components that count as critical."""


@dataclass(frozen=True)
class Question:
    """Which components will be critical at snapshot `target`, seen from snapshot `cutoff` (positions in the series)?
    `early` and `ahead` are the cutoff and the horizon as shares of the run.
    """

    cutoff: int
    target: int
    early: float
    ahead: float


def questions(series: Series) -> Iterator[Question]:
    """All cutoffs x horizons that this run can answer, ordered by cutoff.

    The cutoff is the last snapshot at or before its share of the run, the target the first at or after its step (the
    last one for a horizon of 1). Horizons beyond the run are left out, and so are repeated pairs of snapshots.
    """
    steps = series.steps
    first, length = int(steps[0]), int(steps[-1] - steps[0])
    asked = set()
    for early, ahead in product(CUTOFFS, HORIZONS):
        cutoff = int(np.searchsorted(steps, first + early * length, side="right")) - 1
        end = steps[-1] if ahead == 1 else steps[cutoff] + ahead * length
        target = int(np.searchsorted(steps, end))
        if cutoff < target < len(steps) and (cutoff, target) not in asked:
            asked.add((cutoff, target))
            yield Question(cutoff, target, early, ahead)


def judge(prediction: np.ndarray, series: Series, question: Question, scores: bool = True) -> dict[str, float]:
    """How good a prediction [n_components] is.

    Args:
        scores: whether it predicts scores, which have an error, or only an order.

    Returns:
        precision: overlap of the k predicted components with the k that were critical at the target (precision@k).
        newcomers: share of the components critical only at the target, not at the cutoff, that were predicted; NaN if
            there are none.
        spearman: rank correlation over all components; NaN if one side is constant.
        ndcg: normalised discounted cumulative gain of the k predicted first (Jaervelin and Kekaelaeinen 2002).
        error: mean absolute error over the mean score; NaN without `scores`.
    """
    actual, today = series.values[:, question.target], series.values[:, question.cutoff]
    k = max(1, round(CIRCUIT * len(series)))
    level = float(actual.mean(dtype=np.float64))
    error = float(np.abs(prediction - actual).mean(dtype=np.float64)) / level if scores and level > 0 else np.nan
    return {
        "precision": overlap(prediction, actual, k),
        "newcomers": newcomer_recall(prediction, actual, today, k),
        "spearman": spearman(prediction, actual),
        "ndcg": float(ndcg_score(actual[None], np.asarray(prediction)[None], k=k)),
        "error": error,
    }
