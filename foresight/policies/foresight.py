"""Policy `foresight`: the circuit that is forecast, where forecasts have proved their worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..forecasters import Forecaster
from ..masks.masks import Mask
from ..masks.selection import circuit_size
from ..trajectory.skill_log import Forecast
from .base import Past, Policy, View
from .gate import Gate
from .targets import Target
from .targets.circuit import Circuit


class Foresight(Policy):
    """The circuit that is forecast for `view.horizon` steps ahead, from the snapshots up to the cutoff.

    With a gate, only where that would have had more of the circuit than the best simple mask, on questions that time
    has answered; otherwise the best simple mask is held. Forecasts are made and judged in either case.

    Args:
        forecaster: it is fitted anew at every decision and keeps its pretraining.
        history: past runs to pretrain it on, if any; evidence for the gate.
        gate: whether to ask the gate, or to believe every forecast.
        target: what the forecast is of, and judged by; by default the run's scores at the horizon.
    """

    name = "foresight"
    needs_scores = True
    forecasts = True
    remasks = True
    ranks = True

    def __init__(
        self, forecaster: Forecaster, history: Sequence[Past] = (), gate: bool = True, target: Target | None = None
    ):
        self.forecaster = forecaster
        self.target = target = target or Circuit()
        if history:
            forecaster.pretrain([part for past in history for part in target.parts(past.series, past.damage)])
        self.gate = Gate(forecaster, history, target) if gate else None

    def mask(self, view: View) -> Mask:
        seen = view.seen(view.cutoff)
        made_at = int(seen.steps[-1])
        for_step = max(made_at + 1, min(view.step + view.horizon, view.total_steps))
        parts = self.target.parts(seen, view.damage)
        scores, at_horizon = self.target.forecast(self.forecaster, parts, for_step - made_at)
        self.last_forecast = Forecast(made_at, for_step, at_horizon, self.target.at(parts, -1))
        if self.gate is not None:
            k = circuit_size(view.table, view.n_vectors)
            self.verdict = verdict = self.gate.judge(seen, for_step - made_at, k, view.damage)
            if not verdict.opens:
                scores = self.gate.candidate(verdict.best, seen, view.damage)
        return view.select(scores)

    def state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        return self.forecaster.state()

    def load_state(self, arrays: Mapping[str, np.ndarray], data: Mapping[str, Any]) -> None:
        self.forecaster.load_state(arrays, data)
