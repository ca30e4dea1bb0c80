"""The tracker: a callback that records circuits while a `ForesightTrainer` trains, under any policy."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from datasets import Dataset
from torch import nn
from transformers import AutoModelForCausalLM, TrainerCallback

from ...bank import Bank
from ...bank.delta import apply_delta, write_delta
from ...common.errors import ConfigError, TrajectoryError
from ...masks.budget import budget_vectors
from ...masks.selection import circuit_size
from ...scoring.corrected import correct, error
from ...scoring.edges import edge_scores
from ...scoring.probes import Probe
from ...tasks.evaluation import Correct, HeldOut
from ...training.trainer import ForesightTrainer
from ...training.watcher import scorer_of
from ...trajectory.metrics import top_k
from ...trajectory.series import METADATA
from ..circuits.faithfulness import circuit_drops
from .recording import EDGE_COLUMNS, HEAD, Head, Metrics, Recording
from .settings import TrackConfig

FEWEST_ROWS = 4
"""With fewer rows of samples, halves of a probe cannot be compared, so there would be no noise floor."""

EDGE_STEPS = 5
"""Integration points of the edges' integrated gradients, as in the published studies."""


@dataclass(frozen=True, eq=False)
class Watched:
    """A task whose circuit is followed on its probe; with held-out rows (columns prompt and completion) it is evaluated
    too, and `correct` says what counts as a correct answer.
    """

    name: str
    probe: Probe
    evaluation: Dataset | None = None
    correct: Correct | None = None


class Tracker(TrainerCallback):
    """Records snapshots into `output_dir/recording`. Add it to a trainer before `train`.

    Snapshots come every `probe_every` steps, at step 0 and at the last step. Scores are taken at the weights in effect,
    base plus bank. Scoring leaves random state, gradients and training flags alone, so a tracked run trains exactly as
    an untracked one. A run that resumes from a checkpoint takes the snapshots after the checkpoint's step again.

    Args:
        trainer: its arguments say how often, how large a circuit is and whether scores are corrected.
        tasks: the tasks to follow; the first is the one that the run trains on.
        info: free-form JSON for the recording's head.

    Attributes:
        recording: set when training begins.
        seconds, tracking_seconds: wall time of the run so far, and the part of it that snapshots took.
        replay_seconds: wall time of the tests after training, with `keep_weights`.

    Raises:
        ConfigError: several processes, masks of single weights, or edges without contrast pairs.
    """

    def __init__(
        self,
        trainer: ForesightTrainer,
        tasks: Sequence[Watched],
        config: TrackConfig,
        info: dict[str, Any] | None = None,
    ):
        args, bank = trainer.args, trainer.bank
        if args.world_size > 1:
            raise ConfigError(
                f"tracking runs in one process, but this is one of {args.world_size}; start it without a launcher"
            )
        if not isinstance(bank, Bank):
            raise ConfigError("tracking follows components; use granularity 'components' or 'vectors', not 'weights'")
        paired = all(task.probe.has_pairs for task in tasks)
        if config.edges_every and not paired:
            raise ConfigError(
                f"edges_every is {config.edges_every}, but edges are scored on contrast pairs and there are none; set "
                "`contrast`, or edges_every to 0"
            )
        self.trainer, self.tasks, self.config, self.info = trainer, list(tasks), config, info or {}
        names = config.scorers or ["attribution" if paired else "gradient_activation"]
        self.scorers = {name: scorer_of(name, bank) for name in names}
        self.circuit = circuit_size(trainer.table, budget_vectors(trainer.table, args.budget))
        evaluated = ((task, task.evaluation) for task in tasks if task.evaluation is not None)
        self.held_out = {t.name: HeldOut(trainer.processing_class, rows, correct=t.correct) for t, rows in evaluated}
        self.start = None
        if config.keep_weights:
            self.start = {name: w.detach().cpu().clone() for name, w in bank.merged_state_dict().items()}
        self.circuits: dict[str, dict[int, np.ndarray]] = {task.name: {} for task in self.tasks}
        self.recording: Recording
        self.seconds = self.tracking_seconds = self.replay_seconds = 0.0

    @property
    def folder(self) -> Path:
        return self.trainer.run.output / "recording"

    # -- events of the training loop --------------------------------------------------------------------------------

    def on_train_begin(self, args, state, control, **kwargs):
        if state.global_step > 0:
            self._continue(state.global_step)
        self._clock = time.perf_counter()
        if state.global_step == 0:
            self._begin()

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step % args.probe_every == 0 or state.global_step == state.max_steps:
            self._record(state.global_step)

    def on_train_end(self, args, state, control, **kwargs):
        if self.recording.steps[-1] != state.global_step:  # stopped early
            self._record(state.global_step)
        if self.start is not None and self.config.faithfulness:
            self._replay()

    # -- snapshots --------------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        bank, table = self.trainer.bank, self.trainer.table
        began = time.perf_counter()
        samples, errors = self._samples(), {}
        for task, (name, scorer) in product(self.tasks, self.scorers.items()):
            if self.trainer.args.calibrate and name.startswith("attribution") and task.probe.has_pairs:
                scores = scorer.combine(samples[f"{task.name}/{name}"], table)
                found = correct(scorer, bank.model, table, task.probe, scores)
                errors[f"{task.name}/{name}"] = error(found).tolist()
        head = Head(errors=errors, info=self.info, **self._identity())
        self.recording = Recording.create(self.folder, head)
        self._record(0, samples, began)

    def _continue(self, step: int) -> None:
        if not (self.folder / HEAD).exists():
            raise TrajectoryError(
                f"the run resumes at step {step}, but {self.folder} holds no recording; start the run again to track it"
            )
        recording = self.recording = Recording.read(self.folder)
        for name, mine in self._identity().items():
            if name != "components" and (found := getattr(recording.head, name)) != mine:
                raise TrajectoryError(
                    f"{self.folder} was recorded with {name} {found}, but this run has {mine}; resume with the "
                    "settings, model and data that it was started with"
                )
        recording.truncate(step)
        if recording.steps:
            for task in self.tasks:
                scores = recording.magnitudes(task.name, recording.head.scorers[0])
                circuits = (top_k(of_step, self.circuit) for of_step in scores)
                self.circuits[task.name] = dict(zip(recording.steps, circuits, strict=True))
            last = recording.metrics(recording.steps[-1])
            self.seconds, self.tracking_seconds = last.seconds, last.tracking_seconds

    def _replay(self) -> None:
        """Rebuild the model of every snapshot from its kept weights and test the circuits of all snapshots on it."""
        model, began = self.trainer.model, time.perf_counter()
        replica = AutoModelForCausalLM.from_config(model.config).to(model.device, model.dtype)
        for step in self.recording.steps:
            if self.recording.stability(step) is None:
                replica.load_state_dict(self.start)
                apply_delta(replica, self.recording.weights(step))
                self.recording.write_stability(step, *self._column(replica))
        self.replay_seconds = time.perf_counter() - began

    def _identity(self) -> dict[str, Any]:
        table = self.trainer.table
        return {
            "table": table.hash,
            "model": self.trainer.bank.base.hash,
            "components": {field: getattr(table, field) for field in METADATA},
            "probes": {task.name: task.probe.hash for task in self.tasks},
            "scorers": tuple(self.scorers),
            "circuit": self.circuit,
        }

    def _record(self, step: int, samples: dict[str, np.ndarray] | None = None, began: float | None = None) -> None:
        bank, config = self.trainer.bank, self.config
        began = began or time.perf_counter()
        samples = samples or self._samples()
        due = config.edges_every > 0 and len(self.recording.steps) % config.edges_every == 0
        edges = self._edges() if due else None
        measured = {name: rows.measure(self.trainer.model) for name, rows in self.held_out.items()}
        first = next(iter(self.scorers))
        for task in self.tasks:
            scores = self.recording.head.magnitude(task.name, first, samples[f"{task.name}/{first}"])
            self.circuits[task.name][step] = top_k(scores, self.circuit)
        stability = self._column(bank.model) if config.faithfulness and not config.keep_weights else None
        if config.keep_weights:
            dtype, name = str(bank.base.dtype).removeprefix("torch."), bank.model.config._name_or_path
            info = {"model": name, "base_hash": bank.base.hash, "dtype": dtype, "step": step}
            write_delta(self.recording.weights(step), bank.table, *bank.changed(), info)
        now = time.perf_counter()
        self.seconds, self._clock = self.seconds + now - self._clock, now
        self.tracking_seconds += now - began
        self.recording.append(step, samples, Metrics(measured, self.tracking_seconds, self.seconds), edges, stability)

    def _samples(self) -> dict[str, np.ndarray]:
        bank, found = self.trainer.bank, {}
        for task, (name, scorer) in product(self.tasks, self.scorers.items()):
            rows = scorer.samples(bank.model, self.trainer.table, task.probe)
            if len(rows) < FEWEST_ROWS:
                raise ConfigError(
                    f"scorer {name!r} gives {len(rows)} rows on the probe of {task.name!r}; at least {FEWEST_ROWS} "
                    "are needed for a noise floor: raise probe_examples, or use a scorer of activations such as "
                    "'attribution', which gives one row per example"
                )
            found[f"{task.name}/{name}"] = rows
        return found

    def _column(self, model: nn.Module) -> tuple[list[int], dict[str, np.ndarray]]:
        """Test each remembered circuit on `model`: steps of the circuits, task -> `circuit_drops`."""
        table, circuits = self.trainer.table, {name: list(known.values()) for name, known in self.circuits.items()}
        drops = {task.name: circuit_drops(model, table, task.probe, circuits[task.name]) for task in self.tasks}
        return list(self.circuits[self.tasks[0].name]), drops

    def _edges(self) -> pa.Table:
        (bank, table), top = (self.trainer.bank, self.trainer.table), self.config.top_edges
        parts = []
        for task in self.tasks:
            found = edge_scores(bank.model, table, task.probe, EDGE_STEPS, top=top, weights=bank.weights)
            source, destination = zip(*found.pairs, strict=True)
            columns = [[task.name] * len(found), source, destination, found.role, found.score]
            parts.append(pa.table(columns, EDGE_COLUMNS.names))
        return pa.concat_tables(parts)
