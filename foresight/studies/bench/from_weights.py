"""Forecasts from weights as entrants of the benchmark, on runs whose weights were kept."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from torch import nn

from ...common.errors import DataError
from ...forecasters.single_weights import extrapolate
from ...model.components import ComponentTable
from ...scoring import make_scorer
from ...scoring.probes import Probe
from ..track.recording import Recording
from ..track.weight_path import RecordedWeights
from .bench import Entrant, Row, answer
from .corpus import Run
from .questions import questions
from .splits import Split


@dataclass(frozen=True, eq=False)
class Opened:
    """What forecasts from weights need of a run besides its recording.

    Attributes:
        model: the model that it started from.
        probe: what it was scored on.
        learning_rates: of every optimizer step, float64 [steps].
    """

    model: nn.Module
    table: ComponentTable
    probe: Probe
    learning_rates: np.ndarray


@dataclass(frozen=True)
class FromWeights(Entrant):
    """One of `foresight.forecasters.FROM_WEIGHTS`. It learns from no other run.

    Args:
        open: loads the model and probe of a run; importable by name, as it is called in worker processes.
    """

    open: Callable[[Run], Opened]

    def ask(self, split: Split) -> Iterator[Row]:
        """Raises DataError for a run without weights."""
        for run in split.test:
            if run.recording is None or not (run.recording / "weights").exists():
                raise DataError(
                    f"run {run.task}, seed {run.seed} has no weights to forecast from; track it with keep_weights and "
                    "name its study with --runs"
                )
            opened, recording = self.open(run), Recording.read(run.recording)
            weights = RecordedWeights(recording, opened.model, opened.table)
            factors, scorer = recording.head.factors(run.task, run.scorer), make_scorer(run.scorer)
            steps = run.series.steps
            for question in questions(run.series):
                began, now = time.perf_counter(), int(steps[question.cutoff])
                abstains = question.cutoff == 0  # a direction takes two snapshots
                prediction = run.series.values[:, 0] if abstains else extrapolate.forecast_scores(
                    self.name, opened.model, opened.table, weights, opened.probe, scorer, now,
                    int(steps[question.target]) - now, opened.learning_rates, factors, run.seed,
                ).astype(np.float32)  # fmt: skip
                seconds = time.perf_counter() - began
                yield answer(self.name, split, run, question, prediction, abstained=abstains, seconds=seconds)
