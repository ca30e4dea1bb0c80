"""Localization by foresight: the heads that are expected to matter after fine-tuning that has only begun."""

from __future__ import annotations

import numpy as np

from ....forecasters import make_forecaster
from ....trajectory.trajectory import Trajectory
from .base import Case, Localizer
from .registry import register


@register("forecast")
class Forecast(Localizer):
    """The forecast of a recorded run's scores.

    Args:
        trajectory: folder of a recorded trajectory of the same model; forecaster: a registered one, or module:Class.
        cutoff: the last step that the forecaster may see; by default all of them.
        horizon: steps after the cutoff. scorer: which scores, where the run has several.

    Raises:
        TrajectoryError: no trajectory there, or one of another model.
    """

    def __init__(
        self,
        trajectory: str,
        horizon: int,
        forecaster: str = "damped_drift",
        cutoff: int | None = None,
        scorer: str | None = None,
    ):
        self.trajectory, self.horizon, self.forecaster = trajectory, horizon, forecaster
        self.cutoff, self.scorer = cutoff, scorer

    def scores(self, case: Case) -> np.ndarray:
        recorded = Trajectory.read(self.trajectory)
        recorded.require_table(case.table)
        series = recorded.series(self.scorer or recorded.scorers[0], self.cutoff)
        found = make_forecaster(self.forecaster).fit(series).predict(self.horizon)
        return found[case.table.kind == "head"]
