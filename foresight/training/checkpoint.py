"""Checkpoints: what is in one, when it is complete, and which is the last good one.

The Hugging Face trainer writes a checkpoint file by file, so a killed run leaves half of one behind. A *seal*, the list
of all files with their checksums, is written last: a folder without a matching seal does not count as a checkpoint.
Base weights are not stored again: they are the original model's with the ledger written in. Nor is anything sharded:
rank 0 writes whole tensors, and every rank takes its part when it resumes, on any number of processes.
"""

from __future__ import annotations

import hashlib
import json
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from ..common.errors import CheckpointError, NonFiniteError
from ..common.files import read_json, sha256, sync, write_json, write_whole
from ..tasks.seen import sampled
from .config import ForesightConfig
from .run import Run

TENSORS, STATE, SEAL = "foresight.safetensors", "foresight.json", "seal.json"
VERSION = 2
TRAJECTORY = "trajectory"
_FREE = frozenset(
    "output_dir disable_tqdm run_name project do_train do_eval do_predict local_rank deepspeed use_cpu tf32 debug "
    "per_device_train_batch_size gradient_accumulation_steps torch_compile torch_compile_backend torch_compile_mode "
    "gradient_checkpointing gradient_checkpointing_kwargs activation_checkpointing activation_checkpointing_kwargs "
    "activation_offloading torch_empty_cache_steps include_num_input_tokens_seen include_for_metrics report_to "
    "prediction_loss_only batch_eval_metrics metric_for_best_model greater_is_better label_names skip_memory_metrics "
    "restore_callback_states_from_checkpoint parallelism_config accelerator_config fsdp fsdp_config dataset_num_proc "
    "trust_remote_code model_init_kwargs enable_jit_checkpoint".split()
)
_FREE_PREFIXES = ("logging_", "log_", "eval_", "save_", "hub_", "push_", "trackio_", "dataloader_", "ddp_", "resume_",
                  "per_device_eval", "bf16_full_eval", "fp16_full_eval")  # fmt: skip
"""Settings that change nothing of what is learned. The batch of a step is compared as a whole: its parts may change."""
ROWS = 1_000
"""Training rows that the digest is of, evenly spaced, and their number."""


def save(run: Run, folder: Path) -> None:
    """Write the state; collective, rank 0 writes.

    Raises:
        NonFiniteError: the bank holds NaN or infinity; the checkpoints before it stay the last good ones.
    """
    tensors, data = _state(run)
    if not torch.isfinite(tensors["bank.vectors"]).all():
        raise NonFiniteError(
            f"trained values are NaN or infinite at step {run.step}, so no checkpoint is written; resume from the last "
            "one with a lower learning_rate or max_grad_norm"
        )
    if run.args.should_save:
        write_state(folder, tensors, data)


def fixed(args: ForesightConfig, rows: Any) -> dict[str, Any]:
    """What a checkpoint keeps: every setting that matters, the rows of a step and the digest of the data (JSON)."""
    given = json.loads(json.dumps(args.to_dict(), default=str))
    given = {k: v for k, v in given.items() if k not in _FREE and not k.startswith(_FREE_PREFIXES)}
    batch = args.per_device_train_batch_size * args.gradient_accumulation_steps * args.world_size
    return {"settings": given, "rows of a step": batch, "training rows": digest(rows)}


def digest(rows: Any) -> str | None:
    """Digest of tokenized training rows; None for a stream."""
    if not hasattr(rows, "__len__"):
        return None
    found = hashlib.sha256(str(len(rows)).encode())
    for row in sampled(rows, ROWS):
        for name in sorted({"input_ids", "labels", "prompt_ids", "chosen_ids", "rejected_ids"} & set(row)):
            found.update(np.asarray(row[name], np.int64).tobytes())
    return found.hexdigest()[:16]


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
        tensors, state = load_file(folder / TENSORS), read_json(folder / STATE)
    except (OSError, ValueError, SafetensorError) as error:
        raise CheckpointError(f"{folder}: {error}") from error
    if state.get("version") not in (1, VERSION):
        raise CheckpointError(f"{folder} has version {state.get('version')}, this foresight reads 1 and {VERSION}")
    return tensors, state


def seal(folder: str | Path) -> None:
    """Declare a checkpoint folder complete, when everything else is in it."""
    folder = Path(folder)
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != SEAL)
    for path in files:
        sync(path)
    write_json(folder / SEAL, {str(p.relative_to(folder)): sha256(p) for p in files})


def check(folder: str | Path) -> None:
    """Raise CheckpointError unless a folder is as it was sealed; names the first file that differs, and the remedy."""
    folder = Path(folder)
    remedy = "resume from an earlier checkpoint (--resume picks the last complete one)"
    try:
        sealed = dict(read_json(folder / SEAL))
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
    folders = [f for f in Path(output_dir).glob("checkpoint-*") if re.fullmatch(r"checkpoint-\d+", f.name)]
    for folder in sorted(folders, key=lambda folder: int(folder.name.removeprefix("checkpoint-")), reverse=True):
        with suppress(CheckpointError):
            check(folder)
            return folder
    return None


def refuse_damaged(output_dir: str | Path) -> None:
    """Raise CheckpointError for a checkpoint that was complete once and is no longer what it was."""
    for folder in Path(output_dir).glob("checkpoint-*"):
        if (folder / SEAL).exists():
            check(folder)


def _state(run: Run) -> tuple[dict[str, Tensor], dict[str, Any]]:
    watcher = run.watcher
    (skill_arrays, skill), (policy_arrays, policy) = run.skill_log.state(), run.policy.state()
    pool = {} if watcher is None or watcher.pool is None else watcher.pool.state()
    along = {} if watcher is None or watcher.along is None else watcher.along.state(run.bank.placement)
    arrays = {
        f"{what}.{name}": array
        for what, arrays in (("skill", skill_arrays), ("policy", policy_arrays), ("pool", pool), ("along", along))
        for name, array in arrays.items()
    }
    return run.bank.tensors(run.optimizer) | {k: torch.from_numpy(v.copy(order="C")) for k, v in arrays.items()}, {
        **run.base_info(),
        "unit": run.numbers.unit,
        "fixed": run.fixed,
        "resumed": run.resumed,
        "table": run.numbers.hash,
        "schedule": run.schedule.to_json(run.numbers),
        "snapshots": len(run.trajectory) if run.trajectory is not None else 0,
        "taken": [watcher.taken, watcher.passes] if watcher is not None else [0, 0],
        "scoring_seconds": watcher.seconds if watcher is not None else 0.0,
        "damage_seconds": watcher.scorer.damage_seconds if watcher is not None else 0.0,
        "remasking": {
            "learning_rates": run.learning_rates,
            "seconds": run.seconds,
            "choosing": run.choosing,
            "pace": run.limits.state() if run.limits is not None else None,
        },
        "skill": skill,
        "policy": policy,
    }
