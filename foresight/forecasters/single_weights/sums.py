"""Sums over the steps of a watch, kept of every weight: how far it moved, and functions of its gradient.

Matrices are as the module stores them. A sum is kept exactly, in one byte per weight, or as rows and columns; it takes
memory from the first addition on. `seen` names the weights that an addition is about, by default all of them (a watch
may see those of a mask only); the values of the others must be zero.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from typing import ClassVar

import torch
from torch import Tensor

from ...common.errors import CheckpointError, ConfigError

DISPLACEMENT = "displacement"
OF_GRADIENT: dict[str, Callable[[Tensor], Tensor]] = {
    "gradient": lambda g: g,
    "sign": torch.sign,
    "absolute": torch.abs,
    "square": torch.square,
}
"""Name -> function of the gradient at a step (clipped, as the optimizer sees it) that is summed over steps."""
SIGNED = ("gradient", "sign")
"""Sums whose terms have both signs."""
LEVELS = 127
"""Steps of an int8 on either side of zero."""


class RunningSum(ABC):
    """A running sum of matrices [rows, columns], on the CPU.

    Attributes:
        tensors: everything that is kept, by name.
        signed: whether terms may have both signs.
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


class Dense(RunningSum):
    """4 bytes per weight; nothing is lost."""

    name = "dense"

    def __init__(self, rows: int, columns: int):
        self.tensors = {"sum": torch.zeros(rows, columns)}

    def add(self, values: Tensor, seen: Tensor | None = None) -> None:
        self.tensors["sum"] += values

    def read(self) -> Tensor:
        return self.tensors["sum"].clone()


class LowPrecision(RunningSum):
    """A byte per weight, 4 per row, and 8 for the count: int8 with one scale per row, its largest sum over 127.

    A new sum is rounded up or down at random, so that it is right in expectation: rounded to the nearest, additions of
    less than half a step would be lost for good. The random numbers depend only on the number of additions.
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


class Factored(RunningSum):
    """8 bytes per row and per column: sums along both, and how many values they are of. For terms >= 0.

    The sum is read as mean of the row x mean of the column / mean of the matrix, as Adafactor does with squared
    gradients (Shazeer & Stern, arXiv 1804.04235, section 3). Means are over the weights that were seen, so that a
    random sample of weights tells about all of them.
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
    form.name: form for form in (Dense, LowPrecision, Factored)
}
MEMORIES = tuple(_FORMS)
"""Names of the forms in which sums can be kept."""


def running_sum(form: str, rows: int, columns: int) -> RunningSum:
    """An empty sum over a matrix, in one of MEMORIES."""
    return _FORMS[form](rows, columns)


class WeightSums:
    """The sums of a watch, for the matrices of a model.

    Args:
        shapes: of every matrix as it is stored, by module.
        names: which sums to keep, of DISPLACEMENT and OF_GRADIENT.
        form: how to keep them, one of MEMORIES.

    Raises:
        ConfigError: terms of both signs in a form that cannot keep them.
    """

    def __init__(self, shapes: Mapping[str, tuple[int, int]], names: Iterable[str], form: str):
        self.shapes, self.names, self.form = dict(shapes), tuple(names), form
        self._sums: dict[tuple[str, str], RunningSum] = {}
        signed = [name for name in self.names if name in SIGNED]
        if signed and not _FORMS[form].signed:
            raise ConfigError(
                f"movement_memory {form!r} keeps no signs, which {', '.join(signed)} needs; use 'dense' or "
                "'low-precision', or movement_rule 'displacement'"
            )

    @property
    def nbytes(self) -> int:
        """Bytes of everything that is kept now."""
        return sum(kept.nbytes for kept in self._sums.values())

    def displaced(self, module: str, distance: Tensor, seen: Tensor | None = None) -> None:
        """Add how far a matrix's weights have moved since their training began: float32, >= 0."""
        self._add(DISPLACEMENT, module, distance, seen)

    def stepped(self, module: str, gradient: Tensor, seen: Tensor | None = None) -> None:
        """Add the gradient of a matrix at one optimizer step, float32, zero where `seen` is false."""
        for name in self.names:
            if name in OF_GRADIENT:
                self._add(name, module, OF_GRADIENT[name](gradient), seen)

    def _add(self, name: str, module: str, values: Tensor, seen: Tensor | None) -> None:
        key = (name, module)
        if key not in self._sums:
            self._sums[key] = running_sum(self.form, *self.shapes[module])
        self._sums[key].add(values, seen)

    def read(self, module: str) -> dict[str, Tensor]:
        """The sums of a matrix by name; zeros for one without additions."""
        kept = ((name, self._sums.get((name, module))) for name in self.names)
        return {name: torch.zeros(self.shapes[module]) if one is None else one.read() for name, one in kept}

    def clear(self) -> None:
        """Forget everything."""
        self._sums = {}

    def tensors(self) -> dict[str, Tensor]:
        """What a checkpoint holds of it, by "name/module/part"."""
        return {
            f"{name}/{module}/{part}": tensor
            for (name, module), kept in self._sums.items()
            for part, tensor in kept.tensors.items()
        }

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Inverse of `tensors`. Raises CheckpointError for those of other matrices, sums or memory."""
        groups: dict[tuple[str, str], dict[str, Tensor]] = {}
        for key, tensor in tensors.items():
            name, module, part = key.split("/") if key.count("/") == 2 else ("", key, "")
            if name not in self.names or module not in self.shapes:
                raise CheckpointError(
                    f"the checkpoint has sums {key!r}, which this run does not keep; resume with the movement_rule and "
                    "movement_memory that it was started with"
                )
            groups.setdefault((name, module), {})[part] = tensor
        self._sums = {}
        for (name, module), parts in groups.items():
            self._sums[name, module] = running_sum(self.form, *self.shapes[module])
            self._sums[name, module].load(parts)
