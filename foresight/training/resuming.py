"""Resuming a run: its state comes back from a checkpoint, and some settings may be others from there on."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR

from ..bank.base_weights import digest, fingerprint
from ..common.errors import CheckpointError, ConfigError
from ..scoring.folds import Folds
from ..trajectory.skill_log import SkillLog
from ..trajectory.trajectory import Trajectory
from . import checkpoint
from .run import Run

_log = logging.getLogger(__name__)

APPLIED = frozenset(
    "learning_rate lr_scheduler_type lr_scheduler_kwargs warmup_steps max_grad_norm weight_decay max_steps "
    "num_train_epochs".split()
)
"""Settings that may change and matter: they hold from the checkpoint's step on, and are recorded."""


def load(run: Run, folder: Path) -> dict[str, list[Any]]:
    """Put a freshly built run, whose optimizer exists, where the checkpoint's was.

    Returns:
        Settings that are others now, with both values (see `changes`).

    Raises:
        CheckpointError: incomplete, damaged, of another model or data, or of settings that may not change.
    """
    tensors, data = checkpoint.read_state(folder)
    changed = changes(folder, data["fixed"], run.fixed) if "fixed" in data else {}  # earlier versions kept none
    run.resumed = data.get("resumed", [])
    if changed:
        run.resumed.append({"step": data["step"], "changed": changed})
    _require_same_model(run, folder, data)
    _restore_bank(run, tensors, data)
    if run.watcher is not None:
        path = run.output / checkpoint.TRAJECTORY
        PartialState().wait_for_everyone()
        if run.args.should_save:
            run.watcher.trajectory = Trajectory.open_append(path, keep=data["snapshots"])
        PartialState().wait_for_everyone()
        if not run.args.should_save:
            run.watcher.trajectory = Trajectory.read(path)
        run.watcher.pool = Folds.from_state(_group(tensors, "pool."))
        if run.watcher.along is not None:
            run.watcher.along.load_state(_group(tensors, "along."), run.bank.placement)
        run.watcher.taken, run.watcher.passes = data.get("taken", (0, 0))  # earlier versions scored one set only
        run.watcher.seconds = data["scoring_seconds"]
        run.watcher.scorer.damage_seconds = data["damage_seconds"]
    times = data["remasking"]
    run.learning_rates, run.seconds, run.choosing = times["learning_rates"], times["seconds"], times["choosing"]
    if run.limits is not None:
        run.limits.load_state(times.get("pace"))
    run.skill_log = SkillLog.from_state(_group(tensors, "skill."), data["skill"])
    run.policy.load_state(_group(tensors, "policy."), data["policy"])
    run.save_schedule()
    return changed


def load_best(run: Run, folder: Path) -> None:
    """Give a run that has ended the mask and the trained weights of one of its checkpoints. Raises as `load`."""
    tensors, data = checkpoint.read_state(folder)
    _require_same_model(run, folder, data)
    _restore_bank(run, tensors, data)
    run.step = data["step"]
    run.save_schedule()


def _require_same_model(run: Run, folder: Path, data: dict[str, Any]) -> None:
    base, here = run.bank.base.hash, run.bank.placement
    if data["version"] == 1:
        base = digest(fingerprint(run.model, here, ordered=False), here)
    for what, expected, found, same in (
        ("model weights", base, data["base_hash"], base == data["base_hash"]),
        ("component table", run.numbers.hash, data["table"], run.numbers.has_hash(data["table"])),
    ):
        if not same:
            raise CheckpointError(
                f"{folder} belongs to {what} {found}, this run has {expected}; resume with the model, dtype and "
                "mlp_block (or granularity) that it was started with"
            )


def _restore_bank(run: Run, tensors: dict[str, Tensor], data: dict[str, Any]) -> None:
    run.schedule = type(run.schedule).from_json(data["schedule"], run.numbers)
    run.bank.restore(tensors, run.schedule.newest(tensors["bank.ids"]), run.optimizer)


def changes(folder: Any, before: dict[str, Any], now: dict[str, Any]) -> dict[str, list[Any]]:
    """Setting -> its value before and now, of those that may change.

    Settings that another version of the libraries has, or had, are not compared.

    Raises:
        CheckpointError: any other has changed; the message shows both values.
    """
    old, new = ({**{k: v for k, v in one.items() if k != "settings"}, **one["settings"]} for one in (before, now))
    found = {name: [old[name], new[name]] for name in old if name in new and old[name] != new[name]}
    held = {name: pair for name, pair in found.items() if name not in APPLIED}
    if held:
        shown = "; ".join(f"{name} was {pair[0]!r:.60} and is {pair[1]!r:.60}" for name, pair in held.items())
        raise CheckpointError(
            f"{folder} belongs to a run with other settings: {shown}. Give those again, or begin another run; what may "
            f"change is {', '.join(sorted(APPLIED))}"
        )
    for name, (was, is_now) in found.items():
        _log.warning("%s: %s was %r and is %r from here on", folder, name, was, is_now)
    return found


def load_scheduler(
    scheduler: Any, optimizer: torch.optim.Optimizer, state: dict[str, Any], changed: dict[str, list[Any]]
) -> None:
    """Restore a scheduler from a checkpoint; where settings have changed, it follows the new ones from there.

    Args:
        changed: of `changes`. A rate that the policy scales stays scaled.

    Raises:
        ConfigError: they have changed, and the scheduler's rates depend on more than the step.
    """
    rates = [group["initial_lr"] for group in optimizer.param_groups]
    scheduler.load_state_dict(state)
    found = scheduler.get_last_lr()
    if changed:
        if not isinstance(scheduler, LambdaLR):
            raise ConfigError(
                f"the rates of scheduler {type(scheduler).__name__} depend on more than the step and cannot change; "
                "resume with the settings of before"
            )
        before, now = changed.get("learning_rate", (1.0, 1.0))
        scheduler.base_lrs = [rate * now / before for rate in scheduler.base_lrs] if before else rates
        pairs = zip(scheduler.base_lrs, scheduler.lr_lambdas, strict=True)
        found = scheduler._last_lr = [rate * share(scheduler.last_epoch) for rate, share in pairs]
    for group, rate in zip(optimizer.param_groups, found, strict=True):
        group["lr"] = rate  # a scheduler remembers the rate, but sets it at its next step only


def _group(tensors: dict[str, torch.Tensor], prefix: str) -> dict:
    return {k.removeprefix(prefix): v.numpy() for k, v in tensors.items() if k.startswith(prefix)}
