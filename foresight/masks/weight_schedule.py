"""Masks of single weights over optimizer steps: too many ids for JSON, so each mask is a file named by its hash.

    schedule.json               {"version": 1, "table": ..., "entries": [{"step": s, "mask": hash, "weights": n}]}
    masks/<hash>.safetensors    ids int64 [n]

A run writes a mask when it comes into force and keeps only its hash: memory and checkpoints do not grow with re-masks.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from ..common.errors import CheckpointError, ConfigError
from ..common.files import write_json, write_whole
from ..model.numbering import Numbering
from .masks import WeightMask, schedule_json

if TYPE_CHECKING:
    from torch import Tensor

MASKS = "masks"


@dataclass
class WeightSchedule:
    """Entry (s, hash, n): the mask of n weights with that hash holds from after step s until the next entry."""

    entries: list[tuple[int, str, int]] = field(default_factory=list)

    def append(self, step: int, mask: WeightMask) -> None:
        """Raises ConfigError for steps out of order and for an empty mask."""
        self._append(step, mask.hash, len(mask))

    def _append(self, step: int, digest: str, n: int) -> None:
        if self.entries and step <= self.entries[-1][0]:
            raise ConfigError(f"mask schedule: step {step} does not follow step {self.entries[-1][0]}")
        if not n:
            raise ConfigError(f"mask schedule: the mask of step {step} is empty; name at least one weight")
        self.entries.append((step, digest, n))

    def at(self, step: int) -> str:
        """Hash of the mask in force after `step` optimizer steps."""
        past = [digest for s, digest, _ in self.entries if s <= step]
        if not past:
            raise ConfigError(f"mask schedule has no entry at or before step {step}; its first step must be 0")
        return past[-1]

    def newest(self, ids: Tensor) -> WeightMask:
        """The last mask, from the ids int64 [n] of a bank that has it in force.

        Raises:
            CheckpointError: they are those of another mask.
        """
        mask = WeightMask(ids.numpy())
        if not self.entries or mask.hash != self.entries[-1][1]:
            raise CheckpointError(f"the bank has mask {mask.hash}, which is not the last one of its mask schedule")
        return mask

    def to_json(self, table: Numbering) -> dict[str, Any]:
        entries = [{"step": s, "mask": digest, "weights": n} for s, digest, n in self.entries]
        return {"version": 1, "table": table.hash, "entries": entries}

    @classmethod
    def from_json(cls, data: dict[str, Any], table: Numbering) -> WeightSchedule:
        """Raises ConfigError for anything else than `to_json` of a schedule for this table."""
        schedule = cls()
        try:
            version, made_for = data["version"], data["table"]
            entries = [(int(e["step"]), str(e["mask"]), int(e["weights"])) for e in data["entries"]]
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigError(
                f"not a schedule of weight masks ({error!r}); expected version, table and entries, as a run with "
                "granularity 'weights' writes them"
            ) from error
        if version != 1 or made_for != table.hash:
            raise ConfigError(
                f"mask schedule has version {version} and is for weights {made_for}; expected version 1 and "
                f"{table.hash}: use the model it was made with"
            )
        for entry in entries:
            schedule._append(*entry)
        return schedule

    def write(self, path: Path, table: Numbering, mask: WeightMask) -> None:
        """Write the schedule, and the mask now in force unless it is there already."""
        file = path.parent / MASKS / f"{mask.hash}.safetensors"
        if not file.exists():
            file.parent.mkdir(exist_ok=True)
            write_whole(file, lambda temporary: save_file({"ids": mask.components}, temporary))
        write_json(path, self.to_json(table))

    @classmethod
    def read(cls, path: str | Path, table: Numbering) -> WeightSchedule:
        """Read the JSON part; masks are read when they are asked for (`read_mask`)."""
        return cls.from_json(schedule_json(path), table)


def read_mask(folder: str | Path, digest: str, table: Numbering) -> WeightMask:
    """The mask of a hash from the folder of its schedule.

    Raises:
        ConfigError: no such file, or not that mask.
    """
    path = Path(folder) / MASKS / f"{digest}.safetensors"
    remedy = f"keep the folder {MASKS!r} beside its schedule.json"
    if not re.fullmatch(r"[0-9a-f]{12}", digest):
        raise ConfigError(f"mask schedule: {digest!r} is not the hash of a mask; expected 12 hexadecimal digits")
    try:
        mask = WeightMask(load_file(path)["ids"])
    except (OSError, KeyError, SafetensorError) as error:
        raise ConfigError(f"{path}: {error!r}; {remedy}") from error
    ids = mask.components
    fits = ids.dtype == np.int64 and ids.ndim == 1 and len(ids) and ids[0] >= 0 and ids[-1] < table.n_vectors
    if not fits or mask.hash != digest or (np.diff(ids) <= 0).any():
        raise ConfigError(f"{path} does not hold sorted weight ids with that hash; {remedy}")
    return mask
