"""Conformal intervals around any forecaster: as wide as its past errors."""

from __future__ import annotations

import numpy as np

from ..trajectory.series import Series
from .backtest import backtest, build, copy, load_members, prefixed
from .base import Forecaster, check_range
from .registry import register
from .relative import FLOOR


@register("conformal")
class Conformal(Forecaster):
    """The forecasts of another forecaster, with quantiles from its errors earlier in this run, by kind of component.

    Split conformal prediction (Vovk et al. 2005; Lei et al. 2018): the forecaster is fitted on the first part of the
    run and its errors, as far ahead as is asked for, are counted on snapshots it has not seen. An error is the log
    ratio of the score to the prediction (both above a thousandth of the mean score), so that intervals scale with the
    scores. The quantile of n errors is their k-th smallest with k = ceil((n + 1) level) above the median, and mirrored
    below; the prediction itself is left as it is. An interval holds as often as it says if errors to come are
    exchangeable with errors past; errors of one step that go together, or a change of pace, break that.

    A horizon longer than half of the run so far is given the errors of that half, which are then too small; after a
    single snapshot there are none, and every quantile is the prediction.

    Args:
        forecaster: name of a forecaster, or a forecaster.
        cutoffs: most cutoffs at which errors are counted, the latest that leave room, 1 to 1,000.

    Attributes:
        forecaster_: the fitted forecaster.
    """

    def __init__(self, forecaster: str | Forecaster = "ridge", cutoffs: int = 4):
        self.forecaster = forecaster
        self.cutoffs = cutoffs

    def _check_params(self) -> None:
        build(self.forecaster)._check_params()
        check_range(self, "cutoffs", 1, 1_000, whole=True)

    def _pretrain(self, histories: list[Series]) -> None:
        self._pretrained_member = build(self.forecaster).pretrain(histories)

    def _fit(self, series: Series) -> None:
        self.forecaster_ = self._fresh().fit(series)
        self.fallback_ = self.forecaster_.fallback_

    def _predict(self, horizon: int) -> np.ndarray:
        return self.forecaster_.predict(horizon)

    def _predict_quantiles(self, horizon: int, levels: np.ndarray) -> np.ndarray:
        kinds = self.series_.kind
        errors, error_kinds = self._errors(horizon)
        prediction = self._predict(horizon).astype(np.float64)
        floor = FLOOR * self.series_.values[:, -1].mean(dtype=np.float64)
        quantiles = np.repeat(prediction[:, None], len(levels), 1)
        for kind in np.unique(kinds):
            mine = np.sort(errors[error_kinds == kind])
            if len(mine):
                factor = np.exp(mine[_positions(len(mine), levels)])
                quantiles[kinds == kind] = (prediction[kinds == kind, None] + floor) * factor - floor
        return quantiles

    def _errors(self, horizon: int) -> tuple[np.ndarray, np.ndarray]:
        """Errors of past forecasts, at the first snapshot `horizon` steps ahead, and the kinds of their components."""
        steps, values = self.series_.steps, self.series_.values
        reach = min(horizon, int(steps[-1] - steps[(len(steps) - 1) // 2]))
        ends = np.searchsorted(steps, steps + reach)
        pairs = [(i, int(end)) for i, end in enumerate(ends) if i < end < len(steps)][-self.cutoffs :]
        errors = [np.zeros(0)]
        for (cutoff, end), (prediction, _) in zip(pairs, backtest(self._fresh(), self.series_, pairs), strict=True):
            floor = max(FLOOR * float(values[:, cutoff].mean(dtype=np.float64)), np.finfo(np.float32).tiny)
            errors.append(np.log((values[:, end] + floor) / (prediction + floor)))
        return np.concatenate(errors), np.tile(self.series_.kind, len(pairs))

    def _fresh(self) -> Forecaster:
        member = getattr(self, "_pretrained_member", None)
        return copy(member) if member else build(self.forecaster)

    def _pretrained_arrays(self) -> dict[str, np.ndarray]:
        member = getattr(self, "_pretrained_member", None)
        return prefixed({"forecaster": member._pretrained_arrays()}) if member else {}

    def _load_pretrained(self, arrays: dict[str, np.ndarray]) -> None:
        if arrays:
            member = build(self.forecaster)
            load_members({"forecaster": member}, arrays)
            self._pretrained_member = member


def _positions(n: int, levels: np.ndarray) -> np.ndarray:
    """Positions among n sorted errors of the conformal quantiles."""
    upper = np.ceil((n + 1) * levels) - 1
    lower = np.floor((n + 1) * levels) - 1
    return np.clip(np.where(levels >= 0.5, upper, lower), 0, n - 1).astype(int)
