"""Everything of a run that outlives a step: into a checkpoint folder, and back onto any number of processes.

Base weights are not in it (they are the original model's with the ledger written in), nor is anything sharded: rank 0
writes whole tensors, and every rank takes its part when it resumes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState

from ..common.errors import CheckpointError, NonFiniteError
from ..trajectory.skill_log import SkillLog
from ..trajectory.trajectory import Trajectory
from . import checkpoint
from .remask import RemaskCallback
from .run import Run

TRAJECTORY = "trajectory"


def save(run: Run, remasking: RemaskCallback, folder: Path) -> None:
    """Write the state; collective, rank 0 writes.

    Raises:
        NonFiniteError: the bank holds NaN or infinity; the checkpoints before it stay the last good ones.
    """
    tensors, data = _tensors(run), _data(run, remasking)
    if not torch.isfinite(tensors["bank.vectors"]).all():
        raise NonFiniteError(
            f"trained values are NaN or infinite at step {run.step}, so no checkpoint is written; resume from the last "
            "one with a lower learning_rate or max_grad_norm"
        )
    if run.args.should_save:
        checkpoint.write_state(folder, tensors, data)


def load(run: Run, remasking: RemaskCallback, folder: Path) -> None:
    """Put a freshly built run, whose optimizer exists, where the checkpoint's was.

    Raises:
        CheckpointError: incomplete, damaged, or of another model.
    """
    tensors, data = checkpoint.read_state(folder)
    for what, expected, found in (
        ("model weights", run.bank.base.hash, data["base_hash"]),
        ("component table", run.numbers.hash, data["table"]),
    ):
        if expected != found:
            raise CheckpointError(
                f"{folder} belongs to {what} {found}, this run has {expected}; resume with the model, dtype and "
                "mlp_block (or granularity) that it was started with"
            )
    run.schedule = type(run.schedule).from_json(data["schedule"], run.numbers)
    run.bank.restore(tensors, run.schedule.newest(tensors["bank.ids"]), run.optimizer)
    if run.watcher is not None:
        path = run.output / TRAJECTORY
        PartialState().wait_for_everyone()
        if run.args.should_save:
            run.watcher.trajectory = Trajectory.open_append(path, keep=data["snapshots"])
        PartialState().wait_for_everyone()
        if not run.args.should_save:
            run.watcher.trajectory = Trajectory.read(path)
        run.watcher.seconds = data["scoring_seconds"]
        run.watcher.scorer.damage_seconds = data["damage_seconds"]
    remasking.load_state_dict(data["remasking"])
    run.skill_log = SkillLog.from_state(_group(tensors, "skill."), data["skill"])
    run.policy.load_state(_group(tensors, "policy."), data["policy"])
    run.save_schedule()


def _tensors(run: Run) -> dict[str, torch.Tensor]:
    arrays = {f"skill.{k}": v for k, v in run.skill_log.state()[0].items()}
    arrays |= {f"policy.{k}": v for k, v in run.policy.state()[0].items()}
    return run.bank.tensors(run.optimizer) | {k: torch.from_numpy(v.copy(order="C")) for k, v in arrays.items()}


def _data(run: Run, remasking: RemaskCallback) -> dict[str, Any]:
    watcher = run.watcher
    return {
        **run.base_info(),
        "unit": run.numbers.unit,
        "table": run.numbers.hash,
        "schedule": run.schedule.to_json(run.numbers),
        "snapshots": len(run.trajectory) if run.trajectory is not None else 0,
        "scoring_seconds": watcher.seconds if watcher is not None else 0.0,
        "damage_seconds": watcher.scorer.damage_seconds if watcher is not None else 0.0,
        "remasking": remasking.state_dict(),
        "skill": run.skill_log.state()[1],
        "policy": run.policy.state()[1],
    }


def _group(tensors: dict[str, torch.Tensor], prefix: str) -> dict:
    return {k.removeprefix(prefix): v.numpy() for k, v in tensors.items() if k.startswith(prefix)}
