"""Rank-aware learning: which of two components will be ahead, by pairwise logistic regression."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from scipy.stats import rankdata
from sklearn.linear_model import LogisticRegression

from ..trajectory.series import Series
from .base import check_range
from .features import FEATURES
from .pooled import PooledForecaster
from .registry import register
from .ridge import PooledRidge

PARTNERS = 2
"""Pairs drawn for each training example."""


@register("ranking")
class PooledRanking(PooledForecaster):
    """Learns the order of components instead of their scores: a circuit is an order's first k.

    Two components of a window are a pair; the difference of their features (those of `ridge`) says who will be ahead
    (RankNet, Burges et al. 2005, with a linear score). A pair weighs as much as it would change the ranking's
    discounted gain if it swapped places today (LambdaRank, Burges 2010), the gain being the later rank. The forecast
    deals today's scores out again in the predicted order (own definition): an order has no scores of its own.

    Args:
        alpha: L2 penalty per pair, in (0, 1e9].
        max_rows: most training examples taken from the run, and as many from past runs; 100 to 200,000.
        min_snapshots: fewest snapshots to learn from without past runs, at least 3.
    """

    def __init__(self, alpha: float = 1e-4, max_rows: int = 50_000, min_snapshots: int = 4):
        self.alpha = alpha
        self.max_rows = max_rows
        self.min_snapshots = min_snapshots

    _design = staticmethod(PooledRidge._design)

    def _check_params(self) -> None:
        super()._check_params()
        check_range(self, "alpha", 1e-12, 1e9)

    def _fit(self, series: Series) -> None:
        super()._fit(series)
        if self.regressor_ is not None and self.regressor_.model_ is None:
            self.regressor_ = None
            self.fallback_ = "persistence: no two components changed places in what there is to learn from"

    def _regressor(self, n_rows: int) -> Any:
        return _PairwiseRanker(self.alpha)

    def _to_scores(self, output: np.ndarray) -> np.ndarray:
        today = self.series_.values[self._order, -1].astype(np.float64)
        output = output.astype(np.float32)  # rounding makes no order
        _, place = np.unique(output, return_inverse=True)
        dealt = np.empty(len(today))
        dealt[np.argsort(output, kind="stable")] = np.sort(today)
        return (np.bincount(place, dealt) / np.bincount(place))[place]  # who ties shares


class _PairwiseRanker:
    """A linear score of a design whose pairs of one window are in the right order; None for no pair that swapped."""

    def __init__(self, alpha: float):
        self.alpha = alpha

    def fit(self, design: np.ndarray, changes: np.ndarray) -> Self:
        today = design[:, 0]
        later = today + changes
        # A window is a stretch of rows with one horizon (last column) and one time of origin (last feature).
        window = design[:, [len(FEATURES) - 1, -1]]
        starts = np.flatnonzero(np.append(True, (np.diff(window, axis=0) != 0).any(1)))
        sizes = np.diff(np.append(starts, len(design)))
        gain, discount = np.empty(len(design)), np.empty(len(design))
        for start, size in zip(starts, sizes, strict=True):
            rows = slice(start, start + size)
            gain[rows] = rankdata(later[rows]) / size
            discount[rows] = 1 / np.log2(1 + rankdata(-today[rows]))
        one = np.repeat(np.arange(len(design)), PARTNERS)
        drawn = np.random.default_rng(0).random(len(one))
        two = (np.repeat(starts, sizes * PARTNERS) + drawn * np.repeat(sizes, sizes * PARTNERS)).astype(int)
        apart = later[one] != later[two]
        one, two = one[apart], two[apart]
        ahead = later[one] > later[two]
        self.model_ = None
        if len(one) and (ahead != (today[one] > today[two])).any():
            weight = np.abs((gain[one] - gain[two]) * (discount[one] - discount[two])) + 1e-9
            difference = design[one] - design[two]
            # Each pair both ways round: both answers occur, and none is favoured.
            self.model_ = LogisticRegression(C=1 / (2 * self.alpha * len(one)), fit_intercept=False, max_iter=200).fit(
                np.concatenate([difference, -difference]),
                np.concatenate([ahead, ~ahead]),
                np.tile(weight / weight.mean(), 2),
            )
        return self

    def predict(self, design: np.ndarray) -> np.ndarray:
        assert self.model_ is not None
        return design.astype(np.float64) @ self.model_.coef_[0]
