"""One cell of an adapter arm: TRL's SFTTrainer with PEFT, at as many parameters as a mask of the budget has."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import TrainerCallback, set_seed
from trl import SFTConfig, SFTTrainer

from ...masks.budget import budget_vectors
from ...model.components import component_table
from ...training.finite import FiniteLoss
from ...trajectory.series import Series
from ...trajectory.trajectory import Trajectory
from ..adapters import adapt
from .curve import LearningCurve, tokenizer_of
from .results import Cell, Measures


class Restart(TrainerCallback):
    """Forgets the optimizer's whole state every so many steps, as `ForesightConfig.restart_every` does for masks."""

    def __init__(self, every: int):
        self.every = every

    def on_step_end(self, args, state, control, optimizer=None, **kwargs):
        assert optimizer is not None
        if self.every and state.global_step % self.every == 0:
            optimizer.state.clear()


class _Finite(FiniteLoss, SFTTrainer):
    """Stops at a loss that is not finite, as a masked run does."""


def run_adapter(cell: Cell, folder: Path, model: Any, rows: Dataset, trajectory: Path | None) -> Measures:
    """Train an adapter and measure what came of it.

    Args:
        folder: of what the trainer writes.
        model: the base model; it gets the adapter.
        trajectory: of a full run of the same task; its first snapshot is what ranks follow, where they follow any.

    Raises:
        ForesightError: the run diverged, or the adapter does not fit into the budget.
    """
    table = component_table(model)
    everything = sum(p.numel() for p in model.parameters())
    given = dict(cell.training)
    restart_every = given.pop("restart_every", 0)
    adapter = adapt(
        cell.method,
        model,
        budget_vectors(table, cell.budget) * table.d_model,
        seed=1000 * cell.seed + cell.draw,
        steps=given["max_steps"],
        scores=_before(trajectory) if trajectory is not None else None,
    )
    set_seed(cell.seed)
    trainer = _Finite(
        model=model,
        args=SFTConfig(output_dir=str(folder), learning_rate=cell.learning_rate, seed=cell.seed, **given),
        train_dataset=rows,
        processing_class=tokenizer_of(cell.model),
        peft_config=adapter.config,
        callbacks=[*adapter.callbacks, Restart(restart_every)],
    )
    curve = LearningCurve(trainer, cell)
    trainer.add_callback(curve)
    began = time.perf_counter()
    trainer.train()
    elapsed = time.perf_counter() - began - curve.seconds
    trained = [p for p in trainer.model.parameters() if p.requires_grad]
    assert trainer.optimizer is not None
    state = [v for slots in trainer.optimizer.state.values() for v in slots.values() if torch.is_tensor(v)]
    return Measures(
        **curve.measured(),
        train_seconds=elapsed,
        peak_bytes=sum(t.nbytes for t in [*trainer.model.parameters(), *trainer.model.buffers(), *trained, *state]),
        trainable=adapter.parameters,
        model_parameters=everything,
        touched=adapter.parameters,
    )


def _before(folder: Path) -> Series:
    trajectory = Trajectory.read(folder)
    return trajectory.series(trajectory.scorers[0]).until(0)
