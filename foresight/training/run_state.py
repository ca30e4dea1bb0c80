"""Everything of a run that outlives a step: into a checkpoint folder, and back onto any number of processes.

Base weights are not in it (they are the original model's with the ledger written in), nor is anything sharded: rank 0
writes whole tensors, and every rank takes its part when it resumes.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ..common.errors import CheckpointError, NonFiniteError
from ..scoring.virtual_moves import VirtualMoves
from ..trajectory.skill_log import SkillLog
from ..trajectory.trajectory import Trajectory
from . import checkpoint

if TYPE_CHECKING:
    from .trainer import ForesightTrainer

TRAJECTORY = "trajectory"
KEPT = "kept_moments."


def save(trainer: ForesightTrainer, folder: Path) -> None:
    """Write the state; collective, rank 0 writes.

    Raises:
        NonFiniteError: the bank holds NaN or infinity; the checkpoints before it stay the last good ones.
    """
    tensors, data = _tensors(trainer), _data(trainer)
    if not torch.isfinite(tensors["bank.vectors"]).all():
        raise NonFiniteError(
            f"trained values are NaN or infinite at step {trainer.state.global_step}, so no checkpoint is written; "
            "resume from the last one with a lower learning_rate or max_grad_norm"
        )
    if trainer.args.should_save:
        checkpoint.write_state(folder, tensors, data)


def load(trainer: ForesightTrainer, folder: Path) -> None:
    """Put a freshly built trainer, whose optimizer exists, where the checkpoint's was.

    Raises:
        CheckpointError: incomplete, damaged, or of another model.
    """
    tensors, data = checkpoint.read_state(folder)
    for what, expected, found in (
        ("model weights", trainer.bank.base.hash, data["base_hash"]),
        ("component table", trainer.bank.table.hash, data["table"]),
    ):
        if expected != found:
            raise CheckpointError(
                f"{folder} belongs to {what} {found}, this run has {expected}; resume with the model, dtype and "
                "mlp_block (or granularity) that it was started with"
            )
    trainer.schedule = type(trainer.schedule).from_json(data["schedule"], trainer.bank.table)
    trainer.bank.restore(tensors, trainer.schedule.newest(tensors["bank.ids"]), trainer.bank_optimizer)
    trainer.lr_scheduler.load_state_dict(torch.load(folder / "scheduler.pt", weights_only=True))
    for group, rate in zip(trainer.optimizer.param_groups, trainer.lr_scheduler.get_last_lr(), strict=True):
        group["lr"] = rate  # a scheduler remembers the rate, but sets it at its next step only
    if trainer.watcher is not None:
        path = trainer.output / TRAJECTORY
        trainer.accelerator.wait_for_everyone()
        if trainer.args.should_save:
            trainer.watcher.trajectory = Trajectory.open_append(path, keep=data["snapshots"])
        trainer.accelerator.wait_for_everyone()
        if not trainer.args.should_save:
            trainer.watcher.trajectory = Trajectory.read(path)
        trainer.watcher.seconds = data["scoring_seconds"]
    if (moves := _moves(trainer)) is not None:
        moves.damage_seconds = data["damage_seconds"]
    if trainer.kept_moments is not None:
        trainer.kept_moments.load({k.removeprefix(KEPT): v for k, v in tensors.items() if k.startswith(KEPT)})
    trainer.remasking.load_state_dict(data["remasking"])
    trainer.skill_log = SkillLog.from_state(_group(tensors, "skill."), data["skill"])
    trainer.policy.load_state(_group(tensors, "policy."), data["policy"])
    trainer.save_schedule()


def _tensors(trainer: ForesightTrainer) -> dict[str, torch.Tensor]:
    arrays = {f"skill.{k}": v for k, v in trainer.skill_log.state()[0].items()}
    arrays |= {f"policy.{k}": v for k, v in trainer.policy.state()[0].items()}
    own = trainer.bank.tensors(trainer.bank_optimizer)
    if trainer.kept_moments is not None:
        own |= {f"{KEPT}{k}": v for k, v in trainer.kept_moments.tensors().items()}
    return own | {k: torch.from_numpy(v.copy(order="C")) for k, v in arrays.items()}


def _data(trainer: ForesightTrainer) -> dict[str, Any]:
    moves = _moves(trainer)
    return {
        **trainer.base_info(),
        "unit": trainer.bank.table.unit,
        "table": trainer.bank.table.hash,
        "schedule": trainer.schedule.to_json(trainer.bank.table),
        "snapshots": len(trainer.trajectory) if trainer.trajectory is not None else 0,
        "scoring_seconds": trainer.watcher.seconds if trainer.watcher is not None else 0.0,
        "damage_seconds": moves.damage_seconds if moves is not None else 0.0,
        "remasking": trainer.remasking.state_dict(),
        "skill": trainer.skill_log.state()[1],
        "policy": trainer.policy.state()[1],
    }


def _moves(trainer: ForesightTrainer) -> VirtualMoves | None:
    scorer = trainer.watcher.scorer if trainer.watcher is not None else None
    return scorer if isinstance(scorer, VirtualMoves) else None


def _group(tensors: dict[str, torch.Tensor], prefix: str) -> dict:
    return {k.removeprefix(prefix): v.numpy() for k, v in tensors.items() if k.startswith(prefix)}
