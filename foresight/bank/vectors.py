"""The bank: the one trainable parameter, budget-many vectors added to the frozen vectors that the mask names.

Row vectors (query/key/value/gate/up) are added to a Linear's outputs, column vectors (output and down projections)
read its inputs; both by plain forward hooks on the touched Linears, so untouched ones take the plain path.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from ..components import ComponentTable
from ..masks import Mask
from ..numbering import Target
from .base import AnyBank, Remask, Removable

__all__ = ["Bank", "Remask"]


class Bank(AnyBank):
    """Trainable vectors of length d_model of one model, attached to it on construction; see `AnyBank`."""

    table: ComponentTable
    mask: Mask

    def _attach(self, module: nn.Module, target: Target, index: Tensor) -> Removable:
        def add_rows(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
            piece = self._pieces[target.module]
            return output.index_add(-1, index, F.linear(args[0], piece).to(output.dtype))

        def add_columns(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
            piece = self._pieces[target.module]
            return output + (args[0].index_select(-1, index) @ piece).to(output.dtype)

        return module.register_forward_hook(add_rows if target.axis == "row" else add_columns)
