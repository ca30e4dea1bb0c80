"""What is accumulated of every weight over the steps of a watch: how far it moved, and sums over its gradients.

A statistic takes memory from the first time that something is added to it. Which weights are seen is up to the watch:
all of them, or those of a mask.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor

from ...common.errors import CheckpointError, ConfigError
from .memory import Memory, keeps_signs, memory

DISPLACEMENT = "displacement"
OF_GRADIENT: dict[str, Callable[[Tensor], Tensor]] = {
    "gradient": lambda g: g,
    "sign": torch.sign,
    "absolute": torch.abs,
    "square": torch.square,
}
"""Sums over steps, by name, of a function of the gradient at the step (clipped, as the optimizer sees it)."""
STATISTICS = (DISPLACEMENT, *OF_GRADIENT)
_SIGNED = ("gradient", "sign")


class Statistics:
    """Sums over a watch for the matrices of a model.

    Args:
        shapes: of every matrix as it is stored, by module.
        names: of STATISTICS, those that are to be kept.
        form: how, one of MEMORIES.

    Raises:
        ConfigError: sums of signed values in a form that has none.
    """

    def __init__(self, shapes: Mapping[str, tuple[int, int]], names: Iterable[str], form: str):
        self.shapes, self.names, self.form = dict(shapes), tuple(names), form
        self._sums: dict[tuple[str, str], Memory] = {}
        signed = [name for name in self.names if name in _SIGNED]
        if signed and not keeps_signs(form):
            raise ConfigError(
                f"movement_memory {form!r} keeps no signs, which {', '.join(signed)} needs; use 'dense' or "
                "'low-precision', or movement_rule 'displacement'"
            )

    @property
    def nbytes(self) -> int:
        """Bytes of everything that is kept now."""
        return sum(kept.nbytes for kept in self._sums.values())

    def displaced(self, module: str, distance: Tensor, seen: Tensor | None = None) -> None:
        """Add how far a matrix's weights have moved since they began to be trained: float32, >= 0."""
        self._add(DISPLACEMENT, module, distance, seen)

    def stepped(self, module: str, gradient: Tensor, seen: Tensor | None = None) -> None:
        """Add one optimizer step's gradient of a matrix, float32, zero where `seen` is not."""
        for name in self.names:
            if name in OF_GRADIENT:
                self._add(name, module, OF_GRADIENT[name](gradient), seen)

    def _add(self, name: str, module: str, values: Tensor, seen: Tensor | None) -> None:
        key = (name, module)
        if key not in self._sums:
            self._sums[key] = memory(self.form, *self.shapes[module])
        self._sums[key].add(values, seen)

    def read(self, module: str) -> dict[str, Tensor]:
        """The sums of a matrix by name; zeros of what was never added."""
        kept = ((name, self._sums.get((name, module))) for name in self.names)
        return {name: torch.zeros(self.shapes[module]) if one is None else one.read() for name, one in kept}

    def clear(self) -> None:
        """Forget everything."""
        self._sums = {}

    def tensors(self) -> dict[str, Tensor]:
        """What a checkpoint holds of it, by "statistic/module/part"."""
        return {
            f"{name}/{module}/{part}": tensor
            for (name, module), kept in self._sums.items()
            for part, tensor in kept.tensors.items()
        }

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Inverse of `tensors`. Raises CheckpointError for those of other matrices, statistics or memory."""
        groups: dict[tuple[str, str], dict[str, Tensor]] = {}
        for key, tensor in tensors.items():
            name, module, part = key.split("/") if key.count("/") == 2 else ("", key, "")
            if name not in self.names or module not in self.shapes:
                raise CheckpointError(
                    f"the checkpoint has statistics {key!r}, which this run does not keep; resume with the "
                    "movement_rule and movement_memory that it was started with"
                )
            groups.setdefault((name, module), {})[part] = tensor
        self._sums = {}
        for (name, module), parts in groups.items():
            self._sums[name, module] = memory(self.form, *self.shapes[module])
            self._sums[name, module].load(parts)
