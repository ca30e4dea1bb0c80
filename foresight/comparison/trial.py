"""One cell: fine-tune the shipped model on one task under one arm, and measure what came of it.

Runs in a worker process. Everything here is deterministic given the cell.
"""

from __future__ import annotations

import shutil
import time
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset, disable_progress_bars
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase, TrainerCallback
from transformers.utils import logging as transformers_logging

from ..components import ComponentTable
from ..embedded import model_path
from ..masks import Mask, MaskSchedule, budget_vectors, select
from ..tasks import evaluate, task
from ..training.config import ForesightConfig
from ..training.trainer import ForesightTrainer
from ..trajectory import Trajectory
from .results import Cell, CurvePoint, LastForecast, Measures
from .statistics import log_loss_area

RUN = "run"
"""Folder of the training run inside a cell's folder."""

EVALUATION_SEED = 1_000_000
"""Held-out examples are the same for every arm, seed and step, and come from the tasks' test split."""


def run_cell(cell: Cell, folder: Path) -> Measures:
    """Run one cell; its trajectory and mask schedule stay in `folder`/run.

    Raises:
        ForesightError: the run diverged, or its settings or data cannot be used.
    """
    torch.set_num_threads(1)
    transformers_logging.disable_progress_bar()
    disable_progress_bars()
    tokenizer = _tokenizer()
    model = AutoModelForCausalLM.from_pretrained(model_path(), dtype=torch.float32, local_files_only=True)
    if cell.stage == "base":
        return Measures(accuracy=_accuracies(model, cell))

    goal, examples = task(cell.task), cell.data["train_examples"]
    trainer = ForesightTrainer(
        model=model,
        args=_settings(cell, folder),
        train_dataset=goal.dataset(tokenizer, "train", examples, seed=cell.seed),
        contrast_dataset=goal.contrast(tokenizer, "train", cell.training["probe_examples"], seed=cell.seed),
        processing_class=tokenizer,
    )
    curve = LearningCurve(trainer, cell)
    trainer.add_callback(curve)
    began = time.perf_counter()
    trainer.train()
    elapsed = time.perf_counter() - began - curve.seconds
    scoring = trainer.watcher.seconds if trainer.watcher else 0.0
    if not trainer.policy.needs_scores:  # recorded for the report and for the oracle, of no use to this run
        elapsed, scoring = elapsed - scoring, 0.0
    shutil.rmtree(folder / RUN / "delta")

    accuracy = {cell.task: curve.points[-1].accuracy, **_accuracies(trainer.model, cell)}
    realised = _realised(cell, folder, trainer.table)
    overlap, chance = None, None
    if realised is not None:
        overlap = schedule_overlap(trainer.schedule, realised, trainer.table, trainer.state.max_steps)
        chance = float(min(1.0, trainer.n_vectors / trainer.table.n_vectors))
    return Measures(
        accuracy=accuracy,
        curve=tuple(curve.points),
        log_loss_area=log_loss_area([p.step for p in curve.points], [p.loss for p in curve.points]),
        overlap=overlap,
        chance=chance,
        train_seconds=elapsed,
        scoring_seconds=scoring,
        peak_bytes=held_bytes(trainer),
        trainable=trainer.bank.vectors.numel(),
        schedule=tuple((step, tuple(mask.names(trainer.table))) for step, mask in trainer.schedule.entries),
        realised=tuple(realised.names(trainer.table)) if realised and cell.reference is None else None,
        forecast=curve.forecast,
        notes=_last_logged(trainer.state.log_history),
    )


class LearningCurve(TrainerCallback):
    """Held-out loss and accuracy of the target task at evenly spaced steps, the first and last included.

    Also keeps the last forecast, which the trainer forgets once it has been judged.
    """

    def __init__(self, trainer: ForesightTrainer, cell: Cell):
        self.trainer, self.cell = trainer, cell
        steps = cell.training["max_steps"]
        self.at = {round(steps * i / cell.data["evaluations"]) for i in range(cell.data["evaluations"] + 1)}
        self.points: list[CurvePoint] = []
        self.forecast: LastForecast | None = None
        self.seconds = 0.0

    def on_train_begin(self, args, state, control, **kwargs):
        self._evaluate(0)

    def on_step_end(self, args, state, control, **kwargs):
        if self.trainer.skill_log.pending:
            last = self.trainer.skill_log.pending[-1]
            self.forecast = LastForecast(last.made_at, last.for_step, tuple(last.prediction.tolist()))
        if state.global_step in self.at:
            self._evaluate(state.global_step)

    def _evaluate(self, step: int) -> None:
        began = time.perf_counter()
        found = _evaluate(self.trainer.model, self.cell.task, self.cell.data["eval_examples"])
        self.points.append(CurvePoint(step, found["loss"], found["accuracy"]))
        self.seconds += time.perf_counter() - began


def schedule_overlap(schedule: MaskSchedule, realised: Mask, table: ComponentTable, steps: int) -> float:
    """Share of the realised circuit's vectors that were being trained, averaged over optimizer steps.

    The definition is this project's own. Vectors, not components, because that is what a budget counts; averaged
    over time, because a mask that becomes right only at the end has trained the wrong components until then.
    """
    circuit = set(table.vector_ids(realised.components).tolist())
    ends = [step for step, _ in schedule.entries[1:]] + [steps]
    shared = 0
    for (step, mask), until in zip(schedule.entries, ends, strict=True):
        shared += (until - step) * len(circuit.intersection(table.vector_ids(mask.components).tolist()))
    return shared / (steps * len(circuit))


def realised_circuit(trajectory: Trajectory, table: ComponentTable, budget: float) -> Mask:
    """The circuit that a run ended with: the top components at its last snapshot that fit into the budget."""
    trajectory.require_table(table)
    series = trajectory.series(trajectory.scorers[0])
    return select(series.values[:, -1], table, budget_vectors(table, budget))


def held_bytes(trainer: ForesightTrainer) -> int:
    """Bytes of parameters, buffers, gradients, optimizer state and ledger, counted tensor by tensor."""
    trained = [p for p in trainer.model.parameters() if p.requires_grad]
    state = [v for slots in trainer.optimizer.state.values() for v in slots.values() if torch.is_tensor(v)]
    ledger = trainer.bank.ledger
    tensors = [*trainer.model.parameters(), *trainer.model.buffers(), *trained, *state, ledger.ids, ledger.values]
    return sum(tensor.nbytes for tensor in tensors)  # a gradient is as large as its parameter


def _settings(cell: Cell, folder: Path) -> ForesightConfig:
    runs = folder.parent
    sources: dict[str, Any] = {}
    if cell.history:
        sources["history"] = [str(runs / key / RUN / "trajectory") for key in cell.history]
    if cell.training["policy"] == "oracle":
        sources["oracle_trajectory"] = str(runs / str(cell.reference) / RUN / "trajectory")
    return ForesightConfig(
        output_dir=str(folder / RUN),
        learning_rate=cell.learning_rate,
        seed=cell.seed,
        mask_seed=1000 * cell.seed + cell.draw,
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        report_to="none",
        save_strategy="no",
        logging_strategy="no",
        disable_tqdm=True,
        **cell.training,
        **sources,
    )


def _realised(cell: Cell, folder: Path, table: ComponentTable) -> Mask | None:
    source = folder if cell.reference is None else folder.parent / cell.reference
    if not (source / RUN / "trajectory").exists():
        return None  # the full run of this task and seed failed
    return realised_circuit(Trajectory.read(source / RUN / "trajectory"), table, cell.training["budget"])


def _accuracies(model, cell: Cell) -> dict[str, float]:
    return {name: _evaluate(model, name, cell.data["eval_examples"])["accuracy"] for name in cell.data["evaluate"]}


def _evaluate(model, name: str, examples: int) -> dict[str, float]:
    return evaluate(model, _tokenizer(), _held_out(name, examples), correct=task(name).correct)


@cache
def _held_out(name: str, examples: int) -> Dataset:
    return task(name).dataset(_tokenizer(), "test", examples, seed=EVALUATION_SEED)


@cache
def _tokenizer() -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(model_path(), local_files_only=True)


def _last_logged(history: list[dict[str, float]]) -> dict[str, float]:
    """The last finite value of every number that foresight logged."""
    notes: dict[str, float] = {}
    for entry in history:
        notes |= {k: float(v) for k, v in entry.items() if k.startswith("foresight/") and np.isfinite(v)}
    return notes
