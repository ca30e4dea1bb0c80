"""Numbering what a bank can hold: every vector, or every single weight, of the Linears that masks can touch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Literal

import numpy as np


@dataclass(frozen=True)
class Target:
    """A Linear that masks can touch: `n` vectors along `axis`, the first of them number `offset` in the table.

    Rows and columns are vectors of length d_model in feature space. Entries are single weights, or pieces of rows, in
    the order in which the module stores them.
    """

    module: str
    axis: Literal["row", "column", "entry"]
    n: int
    offset: int

    @property
    def ids(self) -> slice:
        """The ids of its vectors."""
        return slice(self.offset, self.offset + self.n)


class Numbering(ABC):
    """The vectors of one model that a bank can hold, numbered 0..n_vectors-1, target by target.

    Attributes:
        targets: tuple of `Target`, in forward order; together they number every vector.
        candidates: those of the targets that masks may take; all, unless a run restricts them.
        d_model: length of a vector.
        model_parameters: ALL parameters of the model, embeddings and head included (tied weights count once).
        unit: what messages call a vector, in the plural.
    """

    unit: ClassVar[str] = "vectors"

    def __init__(self, targets: Sequence[Target], d_model: int, model_parameters: int):
        self.targets = self.candidates = tuple(targets)
        self.d_model = d_model
        self.model_parameters = model_parameters

    @property
    def n_vectors(self) -> int:
        """Vectors in all targets together."""
        return sum(t.n for t in self.targets)

    @property
    def restricted(self) -> bool:
        """Whether masks may not take all there is."""
        return len(self.candidates) < len(self.targets)

    @property
    def available(self) -> int:
        """Vectors that masks may take."""
        return sum(t.n for t in self.candidates)

    @cached_property
    def target_of(self) -> dict[str, Target]:
        return {t.module: t for t in self.targets}

    def by_target(self, ids) -> Iterator[tuple[Target, slice]]:
        """Yield every target that has vectors among the sorted `ids` [k], with the slice of `ids` that is its own."""
        cuts = np.searchsorted(np.asarray(ids), [*(t.offset for t in self.targets), self.n_vectors])
        for target, start, stop in zip(self.targets, cuts[:-1], cuts[1:], strict=True):
            if stop > start:
                yield target, slice(int(start), int(stop))

    @property
    @abstractmethod
    def hash(self) -> str:
        """Hex digest (16 characters); equal tables have equal hashes."""

    def has_hash(self, found: str) -> bool:
        """Whether a hash from a file, of this or an earlier version, is that of this table."""
        return found == self.hash

    @property
    @abstractmethod
    def smallest(self) -> int:
        """Vectors in the smallest unit that a mask can name."""

    @abstractmethod
    def vector_ids(self, components) -> np.ndarray:
        """Return the sorted int64 ids of all vectors of the given units of a mask."""
