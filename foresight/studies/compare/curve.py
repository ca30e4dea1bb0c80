"""What is measured of any run: held-out loss and accuracy over its steps, and the bytes that it held."""

from __future__ import annotations

import time
from functools import cache
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase, TrainerCallback

from ...common.intervals import log_loss_area
from ...model.loading import load_tokenizer
from ...model.model_config import ModelConfig
from ...tasks import task
from ...tasks.evaluation import HeldOut
from ...training.run import Run
from .results import Cell, CurvePoint, LastForecast

EVALUATION_SEED = 1_000_000
"""Held-out examples are the same for every arm, seed and step, and come from the tasks' test split."""


class LearningCurve(TrainerCallback):
    """Evaluates at evenly spaced steps, the first and last included; only scored runs on the retained tasks.

    It also keeps the last forecast, which the trainer drops once it has been judged.

    Attributes:
        points: the curve so far.
        last: "accuracy" and "loss" at the last point, by task.
        seconds: wall time of the evaluations; train_seconds: of the rest of the training.
    """

    def __init__(self, trainer: Any, cell: Cell, run: Run | None):
        self.trainer, self.cell, self.run = trainer, cell, run
        self.retained = cell.data["retained"] if cell.stage == "score" else []
        steps, n = cell.training["max_steps"], cell.data["evaluations"]
        self.at = {round(steps * i / n) for i in range(n + 1)}
        self.points: list[CurvePoint] = []
        self.last: dict[str, dict[str, float]] = {}
        self.forecast: LastForecast | None = None
        self.seconds = self.train_seconds = 0.0

    def on_train_begin(self, args, state, control, **kwargs):
        self._evaluate(0)

    def on_step_end(self, args, state, control, **kwargs):
        if self.run is not None and self.run.skill_log.pending:
            last = self.run.skill_log.pending[-1]
            self.forecast = LastForecast(last.made_at, last.for_step, tuple(last.prediction.tolist()))
        if state.global_step in self.at:
            self._evaluate(state.global_step)

    def measured(self) -> dict[str, Any]:
        """The fields of `Measures` that the curve gives."""
        steps, losses = [point.step for point in self.points], [point.loss for point in self.points]
        return {
            **self.last,
            "curve": tuple(self.points),
            "log_loss_area": log_loss_area(steps, losses),
            "steps_to_target": steps_to(self.points, self.cell.data["target_accuracy"]),
            "forecast": self.forecast,
            "train_seconds": self.train_seconds,
        }

    def _evaluate(self, step: int) -> None:
        began = time.perf_counter()
        self.last = evaluate_tasks(self.trainer.model, self.cell, [self.cell.task, *self.retained])
        loss, accuracy = self.last["loss"], self.last["accuracy"]
        retained = [float(np.mean([of[name] for name in self.retained])) for of in (loss, accuracy) if self.retained]
        self.points.append(CurvePoint(step, loss[self.cell.task], accuracy[self.cell.task], *retained))
        self.seconds += time.perf_counter() - began


def train(trainer: Any, cell: Cell, run: Run | None = None) -> LearningCurve:
    """Train a cell's model; `run` is the state of a masked run."""
    curve = LearningCurve(trainer, cell, run)
    trainer.add_callback(curve)
    began = time.perf_counter()
    trainer.train()
    curve.train_seconds = time.perf_counter() - began - curve.seconds
    return curve


def steps_to(points: list[CurvePoint], accuracy: float) -> float | None:
    """First step at which the accuracy is reached, interpolated linearly between evaluations; None if it never is."""
    reached = next((i for i, point in enumerate(points) if point.accuracy >= accuracy), None)
    if not reached:
        return None if reached is None else float(points[0].step)
    before, after = points[reached - 1], points[reached]
    share = (accuracy - before.accuracy) / (after.accuracy - before.accuracy)
    return before.step + share * (after.step - before.step)


def evaluate_tasks(model, cell: Cell, names: list[str]) -> dict[str, Any]:
    """Accuracy and loss of the model on held-out examples: "accuracy" or "loss" -> task -> value."""
    sources, examples = cell.data["sources"], cell.data["eval_examples"]
    found = {name: held_out(cell.model, name, sources.get(name), examples).measure(model) for name in names}
    return {key: {name: of[key] for name, of in found.items()} for key in ("accuracy", "loss")}


@cache
def held_out(model: str, name: str, source: str | None, examples: int) -> HeldOut:
    """The held-out examples of a task, read once per process."""
    chosen, tokenizer = task(name, source), tokenizer_of(model)
    return HeldOut(tokenizer, chosen.dataset(tokenizer, "test", examples, seed=EVALUATION_SEED), correct=chosen.correct)


@cache
def tokenizer_of(model: str) -> PreTrainedTokenizerBase:
    """The tokenizer of a base model, loaded once per process."""
    return load_tokenizer(ModelConfig.of(model))


def held_bytes(trainer: Any, ledger: Any = None, scout: int = 0) -> int:
    """Bytes of parameters, buffers, gradients, optimizer state and ledger of changed vectors after the last step.

    The sum of their tensors' sizes, without activations; `scout` is what a scout held besides the parameters, counted
    instead if it is more.
    """
    trained = [p for p in trainer.model.parameters() if p.requires_grad]  # each has a gradient as large as itself
    state = [v for slots in trainer.optimizer.state.values() for v in slots.values() if torch.is_tensor(v)]
    changed = [ledger.ids, ledger.values] if ledger is not None else []
    frozen = sum(p.nbytes for p in [*trainer.model.parameters(), *trainer.model.buffers()])
    return frozen + max(sum(t.nbytes for t in [*trained, *state, *changed]), scout)
