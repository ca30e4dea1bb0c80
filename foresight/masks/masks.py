"""Masks: sets of whole components (or vectors), or of single weights."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ..common.errors import ConfigError, did_you_mean
from ..model.components import ComponentTable
from ..model.numbering import Numbering

MANY = 50_000
"""Names among which it takes seconds to find the closest one."""


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
        return table.names(self.components)

    @classmethod
    def from_names(cls, names: Iterable[str], table: ComponentTable) -> Mask:
        """Raises ConfigError for a name that the model does not have."""
        found = []
        for name in names:
            if not isinstance(name, str) or (at := table.id_of.get(name)) is None:
                near = did_you_mean(str(name), table.id_of) if len(table) < MANY else ""
                raise ConfigError(
                    f"component {name!r} does not exist in this model{near}; `foresight components MODEL` lists them "
                    "(mlp_block must be that of the saved schedule)"
                )
            found.append(at)
        return cls.of(found)


@dataclass(frozen=True, eq=False)
class WeightMask:
    """The single weights that are trained now: their ids in a `WeightTable`, int64 [n], sorted and unique.

    Its members have the name that they have in a `Mask`, so that a bank can be given either.
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
    """The mask of all components that masks may take."""
    return Mask(tuple(np.flatnonzero(table.allowed).tolist()))


def every_weight(table: Numbering) -> WeightMask:
    """The mask of all single weights that masks may take."""
    return WeightMask(np.concatenate([np.arange(t.offset, t.offset + t.n) for t in table.candidates]))


def churn(old: Mask | WeightMask, new: Mask | WeightMask) -> float:
    """Share of the new mask's components (weights) that were not in the old one, in [0, 1]."""
    return len(np.setdiff1d(new.components, old.components, assume_unique=True)) / max(1, len(new))
