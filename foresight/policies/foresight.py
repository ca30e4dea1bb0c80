"""Policy `foresight`: the circuit that is forecast, where forecasts have proved their worth."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..masks.masks import Mask
from ..masks.selection import circuit_size
from ..trajectory.series import Forecast
from .gate import Gate, taught
from .policy import Ground, Policy, View


class Foresight(Policy):
    """The circuit that is forecast for `view.horizon` steps ahead, from the snapshots up to the cutoff.

    With a gate, only where that would have had more of the circuit than the best simple mask, on questions that time
    has answered; otherwise the best simple mask is held. Forecasts are made and judged in either case. The forecaster
    is fitted anew at every decision and keeps its pretraining on the run's history, which is evidence for the gate too.
    """

    name = "foresight"
    needs_scores = True
    forecasts = True
    remasks = True
    ranks = True

    def __init__(self, cutoff: int | None = None, watch: str = "hold", watch_steps: int | None = None):
        self.cutoff, self.watch, self.watch_steps = cutoff, watch, watch_steps

    def prepare(self, ground: Ground) -> None:
        self.forecaster, self.target = ground.forecaster(), ground.target
        if ground.history:
            taught(self.forecaster, ground.history, self.target)
        self.gate = Gate(self.forecaster, ground.history, self.target) if ground.gate else None
        self.believes = self.gate is None

    def mask(self, view: View) -> Mask:
        seen = view.seen(self.cutoff)
        made_at = int(seen.steps[-1])
        for_step = max(made_at + 1, min(view.step + view.horizon, view.total_steps))
        parts = self.target.parts(seen, view.damage)
        scores, at_horizon = self.target.forecast(self.forecaster, parts, for_step - made_at)
        self.last_forecast = Forecast(made_at, for_step, at_horizon, self.target.at(parts, -1))
        if self.gate is not None:
            k = circuit_size(view.table, view.n_vectors)
            found = self.gate.judge(seen, for_step - made_at, k, view.damage)
            gain = {"gate_gain": found.gain} if math.isfinite(found.gain) else {}
            self.words, self.notes = found.words, {"gate": float(found.opens), **gain}
            self.believes = found.opens
            if not found.opens:
                scores = self.gate.candidate(found.best, seen, view.damage)
        return view.select(scores)

    def state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        return self.forecaster.state()

    def load_state(self, arrays: Mapping[str, np.ndarray], data: Mapping[str, Any]) -> None:
        self.forecaster.load_state(arrays, data)
