"""The folder of a trajectory: append-only and checksummed; no write is ever half visible.

    meta.json                                          hashes, versions, free-form info of the run
    components.safetensors                             layer, kind, index, vectors, name of every component
    snapshots/000003-00000030-<checksum>.safetensors   scores, their errors, exact effects: snapshot 3, step 30

Every file is written under a temporary name, synced and renamed. A snapshot's name holds the first 16 hex digits of
the SHA-256 of its content: the checksum reveals a flipped bit or a truncation, a gap in the sequence a missing file.
(If only the *last* files are lost, the run looks shorter.)
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from ..common.errors import ConfigError, TrajectoryError
from ..common.files import read_json, sync, write_json, write_whole
from .series import pack, unpack

VERSION = 1
_SNAPSHOT = re.compile(r"(\d{6,})-(\d{8,})-([0-9a-f]{16})\.safetensors")


class SnapshotFile(NamedTuple):
    """The parts of a snapshot file's name."""

    sequence: int
    step: int
    checksum: str
    path: Path


class TrajectoryFolder:
    """Reads and writes the files of one folder, whatever the scores mean.

    Raises TrajectoryError for files that are missing or damaged, and what `write_whole` raises when a write fails.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.snapshots = self.path / "snapshots"

    def exists(self) -> bool:
        """Whether it holds a trajectory, or snapshots whose meta.json was lost."""
        return (self.path / "meta.json").exists() or (self.snapshots.exists() and bool(self.files()))

    def write_head(self, meta: dict[str, Any], components: dict[str, np.ndarray]) -> None:
        """Write the metadata. Raises ConfigError if `meta` is not JSON."""
        data = save(pack(components))
        meta = {"version": VERSION, "components_checksum": _checksum(data), **meta}
        try:
            meta["checksum"] = _checksum(_canonical(meta))
        except (TypeError, ValueError) as error:
            raise ConfigError(f"trajectory info is not JSON: {error}; pass strings, numbers, lists") from error
        self.snapshots.mkdir(parents=True, exist_ok=True)
        write_whole(self.path / "components.safetensors", lambda temporary: temporary.write_bytes(data))
        write_json(self.path / "meta.json", meta)

    def read_head(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """What `write_head` was given, verified."""
        meta_file, components_file = self.path / "meta.json", self.path / "components.safetensors"
        if not meta_file.exists() and not self.exists():
            raise TrajectoryError(f"{self.path} is not a trajectory folder: it has no meta.json")
        try:
            meta = read_json(meta_file)
            claimed = meta.pop("checksum")
            if _checksum(_canonical(meta)) != claimed:
                raise TrajectoryError("its checksum does not match")
            if (version := meta.pop("version")) != VERSION:
                raise TrajectoryError(f"it has version {version}; this foresight reads version {VERSION}")
        except (OSError, ValueError, LookupError, TypeError, AttributeError, TrajectoryError) as error:
            raise TrajectoryError(f"{meta_file} is damaged: {error}. The snapshots beside it are untouched") from error
        try:
            data = components_file.read_bytes()
            if _checksum(data) != meta.pop("components_checksum"):
                raise TrajectoryError(f"its {len(data)} bytes do not have the checksum in meta.json")
            return meta, unpack(load(data))
        except (OSError, SafetensorError, TrajectoryError) as error:
            raise TrajectoryError(
                f"{components_file} is damaged: {error}. The snapshots beside it are untouched; copy the file from a "
                f"trajectory of the same model and mlp_block (component table {meta['table']})"
            ) from error

    def files(self) -> list[SnapshotFile]:
        """Snapshot files in sequence, without temporary and foreign files."""
        if not self.snapshots.is_dir():
            raise TrajectoryError(f"{self.snapshots} is missing: all snapshots of the trajectory are gone")
        matches = [(_SNAPSHOT.fullmatch(path.name), path) for path in self.snapshots.iterdir()]
        return sorted(SnapshotFile(int(m[1]), int(m[2]), m[3], path) for m, path in matches if m)

    def write(self, sequence: int, step: int, tensors: dict[str, np.ndarray]) -> None:
        """Add one snapshot file."""
        data = save({"position": np.array([sequence, step], np.int64), **tensors})
        path = self.snapshots / f"{sequence:06d}-{step:08d}-{_checksum(data)}.safetensors"
        write_whole(path, lambda temporary: temporary.write_bytes(data))

    def read(self, file: SnapshotFile) -> dict[str, np.ndarray]:
        """Tensors of one snapshot file, verified against its name."""
        try:
            data = file.path.read_bytes()
            if _checksum(data) != file.checksum:
                raise TrajectoryError(f"its {len(data)} bytes do not have the checksum in its name")
            tensors = load(data)
        except (OSError, SafetensorError) as error:
            raise TrajectoryError(str(error)) from error
        if tensors.pop("position", np.zeros(0)).tolist() != [file.sequence, file.step]:
            raise TrajectoryError("its content is that of another snapshot than its name says")
        return tensors

    def truncate(self, n: int) -> None:
        """Delete snapshots from sequence number `n` on, newest first: a crash meanwhile leaves a shorter run."""
        for file in reversed(self.files()):
            if file.sequence >= n:
                file.path.unlink()
        for leftover in (*self.path.glob(".*.part"), *self.snapshots.glob(".*.part")):
            leftover.unlink()
        sync(self.snapshots)


def _checksum(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def _canonical(meta: dict[str, Any]) -> bytes:
    return json.dumps(meta, sort_keys=True, allow_nan=False).encode()
