"""How a sum over steps is kept of every weight of one matrix: exactly, in a byte a weight, or as rows and columns.

Matrices are as the module stores them. `seen` names the weights that an addition is about, all of them by default; the
values of the others must be zero.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from ...common.errors import CheckpointError

LEVELS = 127
"""Steps of an int8 on either side of zero."""


class Memory(ABC):
    """A running sum of matrices [rows, columns], on the CPU.

    Attributes:
        tensors: everything that is kept, by name.
        signed: sums of values of both signs can be kept.
    """

    name: ClassVar[str]
    signed: ClassVar[bool] = True
    tensors: dict[str, Tensor]

    @property
    def nbytes(self) -> int:
        """Bytes of what is kept."""
        return sum(tensor.nbytes for tensor in self.tensors.values())

    @abstractmethod
    def add(self, values: Tensor, seen: Tensor | None = None) -> None:
        """Add a matrix, float32 [rows, columns]; seen: bool of the same shape."""

    @abstractmethod
    def read(self) -> Tensor:
        """The sum as it is remembered, float32 [rows, columns]."""

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over kept tensors. Raises CheckpointError if they are not of this form and shape."""
        for key, own in self.tensors.items():
            if key not in tensors or tensors[key].shape != own.shape or tensors[key].dtype != own.dtype:
                raise CheckpointError(f"memory {self.name!r} needs {key} of shape {tuple(own.shape)}, {own.dtype}")
        self.tensors = {key: tensors[key].clone() for key in self.tensors}


class Dense(Memory):
    """4 bytes a weight; nothing is lost."""

    name = "dense"

    def __init__(self, rows: int, columns: int):
        self.tensors = {"sum": torch.zeros(rows, columns)}

    def add(self, values: Tensor, seen: Tensor | None = None) -> None:
        self.tensors["sum"] += values

    def read(self) -> Tensor:
        return self.tensors["sum"].clone()


class LowPrecision(Memory):
    """A byte a weight and 4 a row, and 8 for the count: int8 with one scale a row, the largest sum in it over 127.

    A new sum is rounded up or down at random, so that it is right in expectation: rounded to the nearest, additions of
    less than half a step would be lost for good. The random numbers depend on the number of additions alone.
    """

    name = "low-precision"

    def __init__(self, rows: int, columns: int):
        self.tensors = {
            "codes": torch.zeros(rows, columns, dtype=torch.int8),
            "scale": torch.zeros(rows, 1),
            "additions": torch.zeros(1, dtype=torch.int64),
        }

    def add(self, values: Tensor, seen: Tensor | None = None) -> None:
        total = self.read() + values
        scale = total.abs().amax(1, keepdim=True) / LEVELS
        generator = torch.Generator().manual_seed(int(self.tensors["additions"]))
        dither = torch.rand(total.shape, generator=generator)
        codes = torch.floor(total / scale.clamp(min=torch.finfo(torch.float32).tiny) + dither)
        self.tensors["codes"] = codes.clamp(-LEVELS, LEVELS).to(torch.int8)
        self.tensors["scale"] = scale
        self.tensors["additions"] += 1

    def read(self) -> Tensor:
        return self.tensors["codes"].float() * self.tensors["scale"]


class Factored(Memory):
    """8 bytes a row and a column: the sums along both, and how many values they are of. For values >= 0.

    What is read is mean of the row x mean of the column / mean of the matrix, as Adafactor does with squared gradients
    (Shazeer & Stern, arXiv 1804.04235, section 3). Means are over the weights that were seen, so a random sample of
    weights tells of all of them.
    """

    name = "factored"
    signed = False

    def __init__(self, rows: int, columns: int):
        self.tensors = {
            "rows": torch.zeros(rows, 1), "rows_seen": torch.zeros(rows, 1),
            "columns": torch.zeros(1, columns), "columns_seen": torch.zeros(1, columns),
        }  # fmt: skip

    def add(self, values: Tensor, seen: Tensor | None = None) -> None:
        counts = torch.ones_like(values) if seen is None else seen.float()
        for side, axis in (("rows", 1), ("columns", 0)):
            self.tensors[side] += values.sum(axis, keepdim=True)
            self.tensors[f"{side}_seen"] += counts.sum(axis, keepdim=True)

    def read(self) -> Tensor:
        kept = self.tensors
        row, column = (kept[side] / kept[f"{side}_seen"].clamp(min=1) for side in ("rows", "columns"))
        mean = kept["rows"].sum() / kept["rows_seen"].sum().clamp(min=1)
        return row * column / mean if mean > 0 else torch.zeros(row.shape[0], column.shape[1])


_FORMS: dict[str, type[Dense] | type[LowPrecision] | type[Factored]] = {
    cls.name: cls for cls in (Dense, LowPrecision, Factored)
}
MEMORIES = tuple(_FORMS)


def memory(name: str, rows: int, columns: int) -> Memory:
    """An empty sum over a matrix, in one of MEMORIES."""
    return _FORMS[name](rows, columns)


def keeps_signs(name: str) -> bool:
    """Whether sums of values of both signs can be kept so."""
    return _FORMS[name].signed
