"""Policy `foresight`: the circuit that is forecast, where forecasts have proved their worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..forecasters import Forecaster
from ..masks import Mask, circuit_size, select
from ..skill_log import Forecast
from .base import Past, Policy, View
from .gate import Gate


class Foresight(Policy):
    """The circuit that is forecast for `view.horizon` steps ahead, from the snapshots up to the cutoff.

    With a gate, only where that would have had more of the circuit than the best simple mask, on questions that time
    has answered; otherwise the best simple mask is held. Forecasts are made and judged in either case.

    Args:
        forecaster: it is fitted anew at every decision and keeps its pretraining.
        history: past runs to pretrain it on, if any; evidence for the gate.
        gate: whether to ask the gate, or to believe every forecast.
    """

    name = "foresight"
    needs_scores = True
    forecasts = True
    remasks = True

    def __init__(self, forecaster: Forecaster, history: Sequence[Past] = (), gate: bool = True):
        self.forecaster = forecaster
        if history:
            forecaster.pretrain([past.series for past in history])
        self.gate = Gate(forecaster, history) if gate else None

    def mask(self, view: View) -> Mask:
        seen = view.seen(view.cutoff)
        made_at = int(seen.steps[-1])
        for_step = max(made_at + 1, min(view.step + view.horizon, view.total_steps))
        prediction = self.forecaster.fit(seen).predict(for_step - made_at)
        self.last_forecast = Forecast(made_at, for_step, prediction, seen.values[:, -1])
        scores: np.ndarray = prediction
        if self.gate is not None:
            k = circuit_size(view.table, view.n_vectors)
            self.verdict = self.gate.judge(seen, for_step - made_at, k)
            if not self.verdict.opens:
                scores = self.gate.candidate(self.verdict.best, seen)
        return select(scores, view.table, view.n_vectors)

    def state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        return self.forecaster.state()

    def load_state(self, arrays: Mapping[str, np.ndarray], data: Mapping[str, Any]) -> None:
        self.forecaster.load_state(arrays, data)
