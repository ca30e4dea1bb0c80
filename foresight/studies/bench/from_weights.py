"""Forecasts from weights as entrants of the benchmark, and the kept weights of a recorded run as they read them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from ...bank.base_weights import digest, fingerprint
from ...bank.delta import WEIGHTS
from ...common.errors import CheckpointError, DataError, TrajectoryError
from ...forecasters.single_weights import extrapolate
from ...model.components import ComponentTable
from ...model.placement import Placement
from ...scoring import make_scorer
from ...scoring.gradient_taps import stored_weight_of, vectors_first
from ...scoring.probes import Probe
from ..track.recording import Recording
from .bench import Entrant, Row, answer
from .corpus import Run
from .questions import questions
from .splits import Split


@dataclass(frozen=True, eq=False)
class Opened:
    """What forecasts from weights need of a run besides its recording: the model that it started from, what it was
    scored on, and the learning rate of every optimizer step, float64 [steps].
    """

    model: nn.Module
    table: ComponentTable
    probe: Probe
    learning_rates: np.ndarray


@dataclass(frozen=True)
class FromWeights(Entrant):
    """One of `foresight.forecasters.FROM_WEIGHTS`. It learns from no other run. `open` loads the model and probe of a
    run; worker processes import it by name.
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
            corrected, scorer = partial(recording.head.corrected, run.task, run.scorer), make_scorer(run.scorer)
            steps = run.series.steps
            for question in questions(run.series):
                began, now = time.perf_counter(), int(steps[question.cutoff])
                abstains = question.cutoff == 0  # a direction takes two snapshots
                prediction = run.series.values[:, 0] if abstains else extrapolate.forecast_scores(
                    self.name, opened.model, opened.table, weights, opened.probe, scorer, now,
                    int(steps[question.target]) - now, opened.learning_rates, corrected, run.seed,
                ).astype(np.float32)  # fmt: skip
                seconds = time.perf_counter() - began
                yield answer(self.name, split, run, question, prediction, abstained=abstains, seconds=seconds)


class RecordedWeights:
    """A `forecasters.single_weights.extrapolate.WeightPath` over a recording that was made with `keep_weights`.

    Its `steps` are those of the snapshots that have weights.

    Args:
        base_model: the model that the run started from. Each `change` reads it, so it must not be shifted then.
        table: the component table of the recording.

    Raises:
        TrajectoryError: the recording has no weights, or belongs to another model or component table.
    """

    def __init__(self, recording: Recording, base_model: nn.Module, table: ComponentTable):
        here = Placement()
        found = digest(fingerprint(base_model, here), here)
        for what, expected, given in (("weights", recording.head.model, found),
                                      ("components", recording.head.table, table.hash)):  # fmt: skip
            if expected != given:
                raise TrajectoryError(
                    f"{recording.path} belongs to a model with {what} {expected}, this model has {given}; load the "
                    "model that the run started from, in its dtype, with its mlp_block"
                )
        self.recording, self.base_model, self.table = recording, base_model, table
        self.steps = [step for step in recording.steps if self._file(step).exists()]
        if not self.steps:
            raise TrajectoryError(f"{recording.path} was recorded without weights; track the run with keep_weights")

    def change(self, step: int) -> dict[str, Tensor]:
        """Weights at `step` minus those of the base model: module -> float32 [output features, input features]. Raises
        CheckpointError if they are missing, damaged, or do not fit the model.
        """
        file = self._file(step)
        try:
            stored = load_file(file)
        except (OSError, SafetensorError) as error:
            raise CheckpointError(f"{file} is damaged or missing ({error})") from error
        weight_of, changes = stored_weight_of(self.base_model), {}
        for target in self.table.targets:
            index, values = (stored.get(f"{target.module}.{part}") for part in ("index", "values"))
            if index is None or values is None:
                continue
            if not len(index) or int(index.min()) < 0 or int(index.max()) >= target.n or (
                tuple(values.shape) != (len(index), self.table.d_model)
            ):  # fmt: skip
                raise CheckpointError(f"{file}: {target.module} has {len(index)} vectors that do not fit this model")
            before = vectors_first(weight_of(target.module), target)
            change = torch.zeros(before.shape)
            change[index] = values - before[index.to(before.device)].cpu()
            changes[target.module] = vectors_first(change, target)  # transposes back
        return changes

    def _file(self, step: int) -> Path:
        return self.recording.weights(step) / WEIGHTS
