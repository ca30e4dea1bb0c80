"""One cell: fine-tune a base model on one task under one arm, and measure the result.

Runs in a worker process. Everything here is deterministic given the cell.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import TrainerCallback, set_seed
from trl import SFTConfig, SFTTrainer

from ...bank import Bank
from ...common.errors import ConfigError
from ...masks.budget import budget_vectors
from ...masks.masks import Mask
from ...masks.schedule import MaskSchedule
from ...masks.selection import select
from ...model.components import ComponentTable, component_table
from ...model.loading import load_model
from ...model.model_config import ModelConfig
from ...training.config import ForesightConfig
from ...training.masked import FiniteLoss
from ...training.trainer import ForesightTrainer
from ...trajectory.trajectory import Trajectory
from ..adapters import adapt
from ..runner import quiet
from .curve import evaluate_tasks, held_bytes, tokenizer_of, train
from .results import Cell, Measures, read_record
from .rows import contrast_rows, keep, retained_rows, train_rows

RUN = "run"
"""Folder of the training run inside a cell's folder."""


def run_cell(cell: Cell, folder: Path) -> Measures:
    """Run one cell; its trajectory and mask schedule stay in `folder`/run.

    Raises:
        ForesightError: the run diverged, or its settings or data cannot be used.
    """
    quiet()
    model = load_model(ModelConfig.of(cell.model), 0)
    if cell.stage == "base":
        device = "cpu" if cell.data["cpu"] else torch.accelerator.current_accelerator() or "cpu"
        return Measures(**evaluate_tasks(model.to(device), cell, [*cell.data["targets"], *cell.data["retained"]]))
    if cell.method != "mask":
        return _run_adapter(cell, folder, model)
    trainer = ForesightTrainer(
        model=model,
        args=settings_of(cell, folder),
        train_dataset=train_rows(cell),
        contrast_dataset=contrast_rows(cell),
        retained_dataset=retained_rows(cell),
        processing_class=tokenizer_of(cell.model),
    )
    if trainer.run.retained is None:
        keep(cell, trainer.train_dataset)
    curve = train(trainer, cell, trainer.run)
    watcher, scouting = trainer.run.watcher, trainer.run.scouting
    scoring = watcher.seconds if watcher else 0.0
    if watcher and not trainer.policy.needs_scores:  # recorded only for the report and for hindsight
        curve.train_seconds, scoring = curve.train_seconds - scoring, 0.0
    if scouting is not None:
        scoring += scouting.training_seconds + scouting.scoring_seconds
    if not cell.data.get("keep_delta"):
        shutil.rmtree(folder / RUN / "delta")
    return Measures(
        **curve.measured(),
        scoring_seconds=scoring,
        peak_bytes=held_bytes(trainer, trainer.bank.ledger, scouting.bytes if scouting else 0),
        trainable=trainer.bank.vectors.numel(),
        model_parameters=trainer.table.model_parameters,
        touched=trainer.bank.changed()[1].numel(),
        notes={
            name: float(value)  # the last finite one
            for entry in trainer.state.log_history
            for name, value in entry.items()
            if name.startswith("foresight/") and np.isfinite(value)
        },
        words=trainer.policy.words or None,
        **_of_components(cell, folder, trainer),
    )


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


def _run_adapter(cell: Cell, folder: Path, model: Any) -> Measures:
    """Train an adapter by TRL's SFTTrainer and PEFT, at as many parameters as a mask of the budget has."""
    scores = None
    if cell.method == "circuit_lora":  # ranks follow the first snapshot of a full run of the same task
        trajectory = Trajectory.read(folder.parent / cell.sources["realised"] / RUN / "trajectory")
        scores = trajectory.series(trajectory.scorers[0]).until(0)
    table = component_table(model)
    given = dict(cell.training)
    restart_every = given.pop("restart_every", 0)
    adapter = adapt(
        cell.method,
        model,
        budget_vectors(table, cell.budget) * table.d_model,
        seed=1000 * cell.seed + cell.draw,
        steps=given["max_steps"],
        scores=scores,
    )
    set_seed(cell.seed)
    trainer = _Finite(
        model=model,
        args=SFTConfig(output_dir=str(folder / RUN), learning_rate=cell.learning_rate, seed=cell.seed, **given),
        train_dataset=train_rows(cell),
        processing_class=tokenizer_of(cell.model),
        peft_config=adapter.config,
        callbacks=[*adapter.callbacks, Restart(restart_every)],
    )
    curve = train(trainer, cell)
    return Measures(
        **curve.measured(),
        peak_bytes=held_bytes(trainer),
        trainable=adapter.parameters,
        model_parameters=table.model_parameters,
        touched=adapter.parameters,
    )


def settings_of(cell: Cell, folder: Path) -> ForesightConfig:
    """The settings of a cell's run, with what other runs of the comparison give."""
    runs, given = folder.parent, dict(cell.training)
    if cell.history:
        given["history"] = [str(runs / key / RUN / "trajectory") for key in cell.history]
    if "oracle" in cell.sources:
        other = runs / cell.sources["oracle"] / RUN
        movement = given["policy"] == "movement"
        told = {"movement_from": str(other)} if movement else {"oracle_trajectory": str(other / "trajectory")}
        given["policy_params"] = (given.get("policy_params") or {}) | told
    if "touched" in cell.sources:
        record = read_record(runs / cell.sources["touched"])
        if record is None or record.measures is None:
            error = record.error if record else "there is no such run"
            raise ConfigError(f"the run that sets the size of this mask failed: {error}")
        given["budget"] = min(1.0, record.measures.touched / record.measures.model_parameters)
    return ForesightConfig(
        output_dir=str(folder / RUN),
        learning_rate=cell.learning_rate,
        seed=cell.seed,
        mask_seed=1000 * cell.seed + cell.draw,
        **given,
    )


def _of_components(cell: Cell, folder: Path, trainer: ForesightTrainer) -> dict[str, Any]:
    """Measures of masks of components against the realised circuit (see `Measures`); none for single weights.

    The realised circuit is the top components at the last snapshot of the full run that fit into the budget. Shares
    count vectors, as a budget does, and are averaged over optimizer steps, because a mask that becomes right only at
    the end has trained the wrong components until then. The definitions are this project's own.
    """
    if not isinstance(trainer.bank, Bank):
        return {}
    table, steps = trainer.table, trainer.state.max_steps
    found: dict[str, Any] = {
        "schedule": tuple((s, tuple(m.names(table))) for s, m in trainer.schedule.entries if isinstance(m, Mask))
    }
    source = folder.parent / cell.sources["realised"] if "realised" in cell.sources else folder
    if not (source / RUN / "trajectory").exists():
        return found  # the full run of this task and seed failed
    trajectory = Trajectory.read(source / RUN / "trajectory")
    realised, first = (circuit_at(trajectory, table, cell.data["circuit"], at) for at in (-1, 0))
    new = set(realised.components) - set(first.components)
    own = "realised" not in cell.sources
    return found | {
        "overlap": share_trained(trainer.schedule, realised.components, table, steps),
        "newcomers": share_trained(trainer.schedule, new, table, steps),
        "chance": float(min(1.0, trainer.run.n_vectors / table.n_vectors)),
        "realised": tuple(realised.names(table)) if own else None,
    }


def circuit_at(trajectory: Trajectory, table: ComponentTable, budget: float, snapshot: int = -1) -> Mask:
    """The circuit at a snapshot of a recorded run, by default the last."""
    trajectory.require_table(table)
    series = trajectory.series(trajectory.scorers[0])
    return select(series.values[:, snapshot], table, budget_vectors(table, budget))


def share_trained(schedule: MaskSchedule, circuit: Iterable[int], table: ComponentTable, steps: int) -> float | None:
    """Share of the components' vectors in training, averaged over `steps` optimizer steps; None without components."""
    wanted = set(table.vector_ids(tuple(circuit)).tolist())
    if not wanted:
        return None
    ends = [step for step, _ in schedule.entries[1:]] + [steps]
    shared = 0
    for (step, mask), until in zip(schedule.entries, ends, strict=True):
        assert isinstance(mask, Mask)  # of components
        shared += (until - step) * len(wanted.intersection(table.vector_ids(mask.components).tolist()))
    return shared / (steps * len(wanted))
