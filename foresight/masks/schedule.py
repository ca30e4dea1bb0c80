"""Mask schedules: masks over optimizer steps, as JSON that can be read, edited and replayed.

    schedule.json               {"version": 1, "table": hash, "entries": [{"step": s, "components": [names]}]}
    with single weights         {"version": 1, "table": hash, "entries": [{"step": s, "mask": hash, "weights": n}]}
    masks/<hash>.safetensors    ids int64 [n]

A schedule carries a checksum (see `foresight.common.sealed`); to edit one, remove that.

Single weights are too many for JSON, so each mask of them is a file named by its hash. A run writes it when the mask
comes into force and keeps only the hash: memory and checkpoints do not grow with re-masks.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from torch import Tensor

from ..common.errors import CheckpointError, ConfigError
from ..common.files import write_whole
from ..common.sealed import read_sealed, write_sealed
from ..model.components import ComponentTable
from ..model.numbering import Numbering
from .masks import Mask, WeightMask

MASKS = "masks"
VERSION = 1


@dataclass(frozen=True)
class StoredMask:
    """A mask of single weights that lies in a file: its hash, and how many weights it has."""

    hash: str
    n: int

    def __len__(self) -> int:
        return self.n


@dataclass
class MaskSchedule:
    """Masks over optimizer steps: entry (s, mask) holds from after step s until the next entry.

    Attributes:
        entries: of components a `Mask` each; of single weights a `StoredMask`.
        table, folder: what the masks are of, and where `schedule.json` lies, for a schedule that was read.
    """

    entries: list[tuple[int, Mask | StoredMask]] = field(default_factory=list)
    table: Numbering | None = field(default=None, compare=False, repr=False)
    folder: Path | None = field(default=None, compare=False, repr=False)

    def append(self, step: int, mask: Mask | WeightMask | StoredMask) -> None:
        """Add the mask that comes into force after `step`.

        Raises:
            ConfigError: steps out of order, or an empty mask.
        """
        if self.entries and step <= self.entries[-1][0]:
            raise ConfigError(f"mask schedule: step {step} does not follow step {self.entries[-1][0]}")
        if not len(mask):
            raise ConfigError(f"mask schedule: the mask of step {step} is empty; name at least one member")
        self.entries.append((step, StoredMask(mask.hash, len(mask)) if isinstance(mask, WeightMask) else mask))

    def at(self, step: int) -> Mask | WeightMask:
        """The mask in force after `step` optimizer steps; one of single weights is read from its file.

        Raises:
            ConfigError: the schedule begins later, or that file is missing or holds another mask.
        """
        past = [mask for s, mask in self.entries if s <= step]
        if not past:
            raise ConfigError(f"mask schedule has no entry at or before step {step}; its first step must be 0")
        return self._read(past[-1]) if isinstance(past[-1], StoredMask) else past[-1]

    def newest(self, ids: Tensor) -> Mask | WeightMask:
        """The last mask; `ids`, int64 [n], are those of a bank that has it in force.

        Raises:
            CheckpointError: they are those of another mask.
        """
        last = self.entries[-1][1]
        if isinstance(last, Mask):
            return last
        mask = WeightMask(ids.numpy())
        if mask.hash != last.hash:
            raise CheckpointError(f"the bank has mask {mask.hash}, which is not the last one of its mask schedule")
        return mask

    def write(self, path: Path, table: Numbering, mask: Mask | WeightMask) -> None:
        """Write the schedule, and where `mask`, the one in force, is of single weights, its file unless it exists."""
        if isinstance(mask, WeightMask):
            ids, file = mask.components, path.parent / MASKS / f"{mask.hash}.safetensors"
            if not file.exists():
                write_whole(file, lambda temporary: save_file({"ids": ids}, temporary))
        write_sealed(path, self.to_json(table))

    def to_json(self, table: Numbering) -> dict[str, Any]:
        entries = [{"step": step} | _plain(mask, table) for step, mask in self.entries]
        return {"version": VERSION, "table": table.hash, "entries": entries}

    @classmethod
    def from_json(cls, data: Any, table: Numbering, folder: Path | None = None) -> MaskSchedule:
        """Raises ConfigError for anything else than `to_json` of a schedule for this table."""
        schedule = cls(table=table, folder=folder)
        try:
            if data["version"] != VERSION or not table.has_hash(data["table"]):
                raise ConfigError(
                    f"mask schedule has version {data['version']} and was made for {table.unit} {data['table']}; "
                    f"expected version {VERSION} and {table.hash}: the same names can be other weights, so use the "
                    "model and mlp_block it was made with"
                )
            for entry in data["entries"]:
                schedule.append(int(entry["step"]), _mask(entry, table))
        except ConfigError:
            raise
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigError(
                f"not a mask schedule ({error!r}); expected version, table and entries of {table.unit}, as a run over "
                f"{'single weights' if table.unit == 'weights' else 'components or vectors'} writes them"
            ) from error
        return schedule

    @classmethod
    def read(cls, path: str | Path, table: Numbering) -> MaskSchedule:
        """Read a file (raises as `from_json`); masks of single weights are read when they are asked for."""
        try:
            data = read_sealed(path)
        except (OSError, ValueError) as error:
            raise ConfigError(f"mask schedule {path}: {error}; an edited one has to be without checksum") from error
        try:
            return cls.from_json(data, table, Path(path).parent)
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}") from error

    def _read(self, stored: StoredMask) -> WeightMask:
        assert self.table is not None and self.folder is not None  # only a schedule that was read is asked
        path = self.folder / MASKS / f"{stored.hash}.safetensors"
        remedy = f"keep the folder {MASKS!r} beside its schedule.json"
        if not re.fullmatch(r"[0-9a-f]{12}", stored.hash):
            raise ConfigError(
                f"mask schedule: {stored.hash!r} is not the hash of a mask; expected 12 hexadecimal digits"
            )
        try:
            mask = WeightMask(load_file(path)["ids"])
        except (OSError, KeyError, SafetensorError) as error:
            raise ConfigError(f"{path}: {error!r}; {remedy}") from error
        ids, n = mask.components, self.table.n_vectors
        fits = ids.dtype == np.int64 and ids.ndim == 1 and len(ids) and ids[0] >= 0 and ids[-1] < n
        if not fits or mask.hash != stored.hash or (np.diff(ids) <= 0).any():
            raise ConfigError(f"{path} does not hold sorted weight ids with that hash; {remedy}")
        return mask


def _plain(mask: Mask | StoredMask, table: Any) -> dict[str, Any]:
    if isinstance(mask, StoredMask):
        return {"mask": mask.hash, "weights": mask.n}
    return {"components": mask.names(table)}


def _mask(entry: dict[str, Any], table: Numbering) -> Mask | StoredMask:
    if isinstance(table, ComponentTable):
        return Mask.from_names(list(entry["components"]), table)
    return StoredMask(str(entry["mask"]), int(entry["weights"]))
