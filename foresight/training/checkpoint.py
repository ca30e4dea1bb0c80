"""Checkpoints: what is in one, when it is complete, and which is the last good one.

The Hugging Face trainer writes a checkpoint file by file, so a killed run leaves half of one behind. A *seal*, the list
of all files with their checksums, is written last: a folder without a matching seal does not count as a checkpoint.
Base weights are not stored again: they are the original model's with the ledger written in. Nor is anything sharded:
rank 0 writes whole tensors, and every rank takes its part when it resumes, on any number of processes.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from ..bank.base_weights import digest, fingerprint
from ..common.errors import CheckpointError, NonFiniteError
from ..common.files import sha256, sync, write_json, write_whole
from ..trajectory.skill_log import SkillLog
from ..trajectory.trajectory import Trajectory
from .resuming import changes
from .run import Run

TENSORS, STATE, SEAL = "foresight.safetensors", "foresight.json", "seal.json"
VERSION = 2
TRAJECTORY = "trajectory"


def save(run: Run, folder: Path) -> None:
    """Write the state; collective, rank 0 writes.

    Raises:
        NonFiniteError: the bank holds NaN or infinity; the checkpoints before it stay the last good ones.
    """
    tensors, data = _tensors(run), _data(run)
    if not torch.isfinite(tensors["bank.vectors"]).all():
        raise NonFiniteError(
            f"trained values are NaN or infinite at step {run.step}, so no checkpoint is written; resume from the last "
            "one with a lower learning_rate or max_grad_norm"
        )
    if run.args.should_save:
        write_state(folder, tensors, data)


def load(run: Run, folder: Path) -> dict[str, list[Any]]:
    """Put a freshly built run, whose optimizer exists, where the checkpoint's was.

    Returns:
        Settings that are others now, with both values (see `resuming.changes`).

    Raises:
        CheckpointError: incomplete, damaged, of another model or data, or of settings that may not change.
    """
    tensors, data = _read(run, folder)
    changed = changes(folder, data["fixed"], run.fixed) if "fixed" in data else {}  # earlier versions kept none
    run.resumed = data.get("resumed", [])
    if changed:
        run.resumed.append({"step": data["step"], "changed": changed})
    _restore_bank(run, tensors, data)
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
    times = data["remasking"]
    run.learning_rates, run.seconds, run.choosing = times["learning_rates"], times["seconds"], times["choosing"]
    if run.limits is not None:
        run.limits.load_state(times.get("pace"))
    run.skill_log = SkillLog.from_state(_group(tensors, "skill."), data["skill"])
    run.policy.load_state(_group(tensors, "policy."), data["policy"])
    run.save_schedule()
    return changed


def load_best(run: Run, folder: Path) -> None:
    """Give a run that has ended the mask and the trained weights of one of its checkpoints.

    Raises:
        CheckpointError: as `load`.
    """
    tensors, data = _read(run, folder)
    _restore_bank(run, tensors, data)
    run.step = data["step"]
    run.save_schedule()


def _read(run: Run, folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    tensors, data = read_state(folder)
    for what, expected, found in (
        ("model weights", _base_hash(run, data), data["base_hash"]),
        ("component table", run.numbers.hash, data["table"]),
    ):
        if expected != found:
            raise CheckpointError(
                f"{folder} belongs to {what} {found}, this run has {expected}; resume with the model, dtype and "
                "mlp_block (or granularity) that it was started with"
            )
    return tensors, data


def _base_hash(run: Run, data: dict[str, Any]) -> str:
    """The hash of the run's base, in the way in which the checkpoint's was made."""
    if data["version"] != 1:
        return run.bank.base.hash
    here = run.bank.placement
    return digest(fingerprint(run.model, here, ordered=False), here)


def _restore_bank(run: Run, tensors: dict[str, Tensor], data: dict[str, Any]) -> None:
    run.schedule = type(run.schedule).from_json(data["schedule"], run.numbers)
    run.bank.restore(tensors, run.schedule.newest(tensors["bank.ids"]), run.optimizer)


def write_state(folder: str | Path, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
    """Write the run's tensors and its JSON state into a checkpoint folder."""
    folder = Path(folder)
    (folder / SEAL).unlink(missing_ok=True)
    write_whole(folder / TENSORS, lambda path: save_file(tensors, path))
    write_json(folder / STATE, {"version": VERSION, **state})


def read_state(folder: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what `write_state` wrote, after checking the seal.

    Raises:
        CheckpointError: incomplete, damaged, or of another version.
    """
    folder = Path(folder)
    check(folder)
    try:
        tensors, state = load_file(folder / TENSORS), json.loads((folder / STATE).read_text())
    except (OSError, ValueError, SafetensorError) as error:
        raise CheckpointError(f"{folder}: {error}") from error
    if state.get("version") not in (1, VERSION):
        raise CheckpointError(f"{folder} has version {state.get('version')}, this foresight reads 1 and {VERSION}")
    return tensors, state


def seal(folder: str | Path) -> None:
    """Declare a checkpoint folder complete; call it when everything else is in the folder."""
    folder = Path(folder)
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != SEAL)
    for path in files:
        sync(path)
    write_json(folder / SEAL, {str(p.relative_to(folder)): sha256(p) for p in files})


def check(folder: str | Path) -> None:
    """Compare a checkpoint folder with its seal.

    Raises:
        CheckpointError: names the first file that is missing or differs, and what to do instead.
    """
    folder = Path(folder)
    remedy = "resume from an earlier checkpoint (--resume picks the last complete one)"
    try:
        sealed = dict(json.loads((folder / SEAL).read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise CheckpointError(f"{folder} is not a complete checkpoint (no readable {SEAL}); {remedy}") from error
    for name, expected in sealed.items():
        path = folder / name
        if not path.resolve().is_relative_to(folder.resolve()):
            raise CheckpointError(f"{folder}: {SEAL} names {name!r}, which lies outside the checkpoint; {remedy}")
        if not path.is_file():
            raise CheckpointError(f"{folder}: {name} is missing; {remedy}")
        if sha256(path) != expected:
            raise CheckpointError(f"{folder}: {name} is damaged (its checksum differs from the seal); {remedy}")


def last_complete(output_dir: str | Path) -> Path | None:
    """The checkpoint of the highest step under `output_dir` that is complete, or None."""
    numbered = []
    for folder in Path(output_dir).glob("checkpoint-*"):
        if match := re.fullmatch(r"checkpoint-(\d+)", folder.name):
            numbered.append((int(match[1]), folder))
    for _, folder in sorted(numbered, reverse=True):
        try:
            check(folder)
            return folder
        except CheckpointError:
            continue
    return None


def refuse_damaged(output_dir: str | Path) -> None:
    """Raise CheckpointError for a checkpoint that was complete once and is no longer what it was."""
    for folder in Path(output_dir).glob("checkpoint-*"):
        if (folder / SEAL).exists():
            check(folder)


def _tensors(run: Run) -> dict[str, torch.Tensor]:
    arrays = {f"skill.{k}": v for k, v in run.skill_log.state()[0].items()}
    arrays |= {f"policy.{k}": v for k, v in run.policy.state()[0].items()}
    return run.bank.tensors(run.optimizer) | {k: torch.from_numpy(v.copy(order="C")) for k, v in arrays.items()}


def _data(run: Run) -> dict[str, Any]:
    watcher = run.watcher
    return {
        **run.base_info(),
        "unit": run.numbers.unit,
        "fixed": run.fixed,
        "resumed": run.resumed,
        "table": run.numbers.hash,
        "schedule": run.schedule.to_json(run.numbers),
        "snapshots": len(run.trajectory) if run.trajectory is not None else 0,
        "scoring_seconds": watcher.seconds if watcher is not None else 0.0,
        "damage_seconds": watcher.scorer.damage_seconds if watcher is not None else 0.0,
        "remasking": {
            "learning_rates": run.learning_rates,
            "seconds": run.seconds,
            "choosing": run.choosing,
            "pace": run.limits.state() if run.limits is not None else None,
        },
        "skill": run.skill_log.state()[1],
        "policy": run.policy.state()[1],
    }


def _group(tensors: dict[str, torch.Tensor], prefix: str) -> dict:
    return {k.removeprefix(prefix): v.numpy() for k, v in tensors.items() if k.startswith(prefix)}
