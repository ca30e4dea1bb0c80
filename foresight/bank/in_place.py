"""The bank for whole fp32 weights: its vectors are in the weights while the model computes, and nothing is added.

A forward pass begins by writing base plus bank into the masked vectors; a touched Linear then computes as it always
does, and its backward pass forms the gradients of the mask alone. What the weights were is kept, one vector for each
of the bank's, and is put back bit for bit before anything asks for the base: re-masks, checkpoints, checks and exports
are those of `Bank` and see frozen weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from ..common.errors import ConfigError
from ..model.components import ComponentTable, turned
from ..model.numbering import Target
from ..model.placement import Placement
from .base import OtherForward
from .base_weights import BaseWeights, as_vectors
from .vectors import Bank


class InPlaceBank(Bank):
    """A `Bank` whose forward and backward passes cost no additions, for d_model x 4 bytes more a masked vector.

    Equal to `Bank` up to the rounding of float32: x (W + v) in place of x W + x v.

    Attributes:
        put_aside: float32 [n_active, d_model], what the masked vectors were, while others are in their place; or None.

    Raises:
        ConfigError: weights that are not float32, in which small values would be lost, or are sharded.
    """

    beside = False

    def __init__(self, model, table: ComponentTable, n_vectors: int, placement: Placement | None = None):
        self.put_aside: Tensor | None = None
        super().__init__(model, table, n_vectors, placement)
        self._refuse()

    @property
    def base(self) -> BaseWeights:
        """The frozen weights, which the model is given back until its next forward pass."""
        self._put_back()
        return self._base

    @base.setter
    def base(self, base: BaseWeights) -> None:
        self._base = base

    def place(self, placement: Placement) -> None:
        super().place(placement)
        self._refuse()

    def detach(self) -> None:
        self._put_back()
        super().detach()

    @property
    def _computed(self) -> torch.dtype:
        return torch.float32

    def _refuse(self) -> None:
        if self.placement.sharded or self._dtype != torch.float32:
            found = "sharded over processes" if self.placement.sharded else str(self._dtype).removeprefix("torch.")
            raise ConfigError(
                f"the weights are {found}; a bank can be in place only in whole float32 ones: remove in_place"
            )

    def weights(self) -> Callable[[str], Tensor]:
        self._put_in()

        def read(module: str) -> Tensor:
            if self.put_aside is None:
                self._put_in()  # a reader may be used between a forward and its backward pass, which need these weights
            linear = self.model.get_submodule(module)
            return turned(linear.weight.detach().clone(), linear)

        return read

    def _attach(self, module: nn.Module, target: Target, index: Tensor) -> OtherForward:
        self._indices[target.module] = index
        return super()._attach(module, target, index)

    def _place_hooks(self) -> None:
        self._indices: dict[str, Tensor] = {}
        super()._place_hooks()

    def _fetch(self) -> None:
        super()._fetch()
        self._put_in()

    @torch.no_grad()
    def _put_in(self) -> None:
        if self.put_aside is None:
            self.put_aside = torch.cat([self.vectors[:0], *(stored[index] for stored, index, _ in self._masked())])
        for stored, index, part in self._masked():
            stored.index_copy_(0, index, self.put_aside[part] + self.vectors[part])

    @torch.no_grad()
    def _put_back(self) -> None:
        if self.put_aside is None:
            return
        for stored, index, part in self._masked():
            stored.index_copy_(0, index, self.put_aside[part])
        self.put_aside = None

    def _masked(self) -> Iterator[tuple[Tensor, Tensor, slice]]:
        """Of every touched weight: its vectors as rows, which of them are masked, and their rows in the bank."""
        for target, part in self.table.by_target(self.ids):
            module = self.model.get_submodule(target.module)
            yield as_vectors(module.weight.data, module, target.axis), self._indices[target.module], part
