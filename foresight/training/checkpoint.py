"""Checkpoints: what is in one, when it is complete, and which is the last good one.

The Hugging Face trainer writes a checkpoint file by file, so a killed run leaves half of one behind. A *seal*, the list
of all files with their checksums, is written last: a folder without a matching seal does not count as a checkpoint.
Base weights are not stored again; they are the original model's with the ledger written in.
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from ..common.errors import CheckpointError
from ..common.files import sync, write_json, write_whole

TENSORS, STATE, SEAL = "foresight.safetensors", "foresight.json", "seal.json"
VERSION = 1


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
    if state.get("version") != VERSION:
        raise CheckpointError(f"{folder} has version {state.get('version')}, this foresight reads {VERSION}")
    return tensors, state


def seal(folder: str | Path) -> None:
    """Declare a checkpoint folder complete; call it when everything else is in the folder."""
    folder = Path(folder)
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != SEAL)
    for path in files:
        sync(path)
    write_json(folder / SEAL, {str(p.relative_to(folder)): _sha256(p) for p in files})


def check(folder: str | Path) -> None:
    """Compare a checkpoint folder with its seal.

    Raises:
        CheckpointError: names the first file that is missing or differs, and what to do instead.
    """
    folder = Path(folder)
    remedy = "resume from an earlier checkpoint (--resume picks the last complete one)"
    try:
        sealed = json.loads((folder / SEAL).read_text())
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{folder} is not a complete checkpoint (no readable {SEAL}); {remedy}") from error
    for name, expected in sealed.items():
        path = folder / name
        if not path.resolve().is_relative_to(folder.resolve()):
            raise CheckpointError(f"{folder}: {SEAL} names {name!r}, which lies outside the checkpoint; {remedy}")
        if not path.is_file():
            raise CheckpointError(f"{folder}: {name} is missing; {remedy}")
        if _sha256(path) != expected:
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


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
