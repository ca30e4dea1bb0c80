"""Masks and mask schedules. A mask is a set of whole components, or of single weights."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..common.errors import ConfigError, did_you_mean
from ..common.files import write_json
from ..model.components import ComponentTable
from ..model.numbering import Numbering

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Mask:
    """The components that are trained now, as sorted positions in a `ComponentTable`."""

    components: tuple[int, ...]

    @classmethod
    def of(cls, components: Iterable[int]) -> Mask:
        return cls(tuple(sorted({int(c) for c in components})))

    @property
    def hash(self) -> str:
        """Hex digest (12 characters) of the set."""
        return hashlib.sha256(repr(self.components).encode()).hexdigest()[:12]

    def __len__(self) -> int:
        return len(self.components)

    def names(self, table: ComponentTable) -> list[str]:
        return [table.components[i].name for i in self.components]

    @classmethod
    def from_names(cls, names: Iterable[str], table: ComponentTable) -> Mask:
        """Raises ConfigError for a name that the model does not have."""
        names = list(names)
        for name in names:
            if not isinstance(name, str) or name not in table.id_of:
                raise ConfigError(
                    f"component {name!r} does not exist in this model{did_you_mean(str(name), table.id_of)}; "
                    "`foresight components MODEL` lists them (mlp_block must be that of the saved schedule)"
                )
        return cls.of(table.id_of[name] for name in names)


@dataclass(frozen=True, eq=False)
class WeightMask:
    """The single weights that are trained now: their ids in a `WeightTable`, int64 [n], sorted and unique.

    Under the name that a `Mask` has for its members, so that a bank can be given either.
    """

    components: np.ndarray

    @cached_property
    def hash(self) -> str:
        """Hex digest (12 characters) of the set."""
        return hashlib.sha256(np.ascontiguousarray(self.components).data).hexdigest()[:12]

    def __len__(self) -> int:
        return len(self.components)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, WeightMask) and np.array_equal(self.components, other.components)


def everything(table: ComponentTable) -> Mask:
    """The mask of all components."""
    return Mask(tuple(range(len(table))))


def every_weight(table: Numbering) -> WeightMask:
    """The mask of all single weights."""
    return WeightMask(np.arange(table.n_vectors))


def churn(old: Mask | WeightMask, new: Mask | WeightMask) -> float:
    """Share of the new mask's components (weights) that were not in the old one, in [0, 1]."""
    return len(np.setdiff1d(new.components, old.components, assume_unique=True)) / max(1, len(new))


@dataclass
class MaskSchedule:
    """Masks over optimizer steps: entry (s, mask) holds from after step s until the next entry.

    Serialised as JSON with component names, so that a schedule can be read, edited and replayed.
    """

    entries: list[tuple[int, Mask]] = field(default_factory=list)

    def append(self, step: int, mask: Mask) -> None:
        if self.entries and step <= self.entries[-1][0]:
            raise ConfigError(f"mask schedule: step {step} does not follow step {self.entries[-1][0]}")
        if not len(mask):
            raise ConfigError(f"mask schedule: the mask of step {step} is empty; name at least one component")
        self.entries.append((step, mask))

    def at(self, step: int) -> Mask:
        """The mask in force after `step` optimizer steps."""
        past = [mask for s, mask in self.entries if s <= step]
        if not past:
            raise ConfigError(f"mask schedule has no entry at or before step {step}; its first step must be 0")
        return past[-1]

    def newest(self, ids: Tensor) -> Mask:
        """The last mask; `ids` are those of a bank that has it in force."""
        return self.entries[-1][1]

    def write(self, path: Path, table: ComponentTable, mask: Mask) -> None:
        """Write the schedule as JSON; `mask` is the one in force."""
        write_json(path, self.to_json(table))

    def to_json(self, table: ComponentTable) -> dict:
        return {
            "version": 1,
            "table": table.hash,
            "entries": [{"step": s, "components": m.names(table)} for s, m in self.entries],
        }

    @classmethod
    def from_json(cls, data: dict, table: ComponentTable) -> MaskSchedule:
        schedule = cls()
        try:
            version, made_for = data["version"], data["table"]
            entries = [(int(e["step"]), list(e["components"])) for e in data["entries"]]
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigError(f"not a mask schedule ({error!r}); expected version, table and entries") from error
        if version != 1 or made_for != table.hash:
            raise ConfigError(
                f"mask schedule has version {version} and component table {made_for}; expected version 1 and "
                f"{table.hash}: the same names can be other weights, so use the model and mlp_block it was made with"
            )
        for step, names in entries:
            schedule.append(step, Mask.from_names(names, table))
        return schedule

    @classmethod
    def read(cls, path: str | Path, table: ComponentTable) -> MaskSchedule:
        return cls.from_json(schedule_json(path), table)


def schedule_json(path: str | Path) -> Any:
    """The JSON of a mask schedule's file. Raises ConfigError if it cannot be read."""
    try:
        return json.loads(Path(path).read_text())
    except (OSError, ValueError) as error:
        raise ConfigError(f"mask schedule {path}: {error}") from error
