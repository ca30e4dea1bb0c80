"""One cell of an adapter arm: TRL's SFTTrainer with PEFT, at as many parameters as a mask of the budget has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from datasets import Dataset
from transformers import TrainerCallback, set_seed
from trl import SFTConfig, SFTTrainer

from ...masks.budget import budget_vectors
from ...model.components import component_table
from ...training.masked import FiniteLoss
from ...trajectory.series import Series
from ...trajectory.trajectory import Trajectory
from ..adapters import adapt
from .curve import held_bytes, tokenizer_of, train
from .results import Cell, Measures


class Restart(TrainerCallback):
    """Clears the optimizer's whole state every `every` steps, as `ForesightConfig.restart_every` does for masks."""

    def __init__(self, every: int):
        self.every = every

    def on_step_end(self, args, state, control, optimizer=None, **kwargs):
        assert optimizer is not None
        if self.every and state.global_step % self.every == 0:
            optimizer.state.clear()


class _Finite(FiniteLoss, SFTTrainer):
    """Stops at a loss that is not finite, as a masked run does."""


def run_adapter(cell: Cell, folder: Path, model: Any, rows: Dataset, trajectory: Path | None) -> Measures:
    """Train an adapter and measure the result.

    Args:
        folder: where the trainer writes.
        model: the base model, which gets the adapter.
        trajectory: of a full run of the same task, for ranks that follow the scores of its first snapshot.

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
    curve = train(trainer, cell)
    return Measures(
        **curve.measured(),
        peak_bytes=held_bytes(trainer),
        trainable=adapter.parameters,
        model_parameters=everything,
        touched=adapter.parameters,
    )


def _before(folder: Path) -> Series:
    trajectory = Trajectory.read(folder)
    return trajectory.series(trajectory.scorers[0]).until(0)
