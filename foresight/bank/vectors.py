"""The bank: the one trainable parameter, budget-many vectors added to the frozen vectors that the mask names.

Row vectors (query/key/value/gate/up) are added to a Linear's outputs, column vectors (output and down projections)
read its inputs. A touched Linear does so in one autograd node of its own, in both passes right into the product of its
frozen weight: no second output or gradient of full size is made and added, no weight gradient outside the mask is
formed, and of a column Linear only the masked inputs are kept for the backward pass. Others take the plain path.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from ..masks.masks import Mask
from ..model.components import ComponentTable, features, stored_transposed
from ..model.numbering import Target
from .base import AnyBank

TOGETHER = 16
"""Features per run from which slices beat an index; components of the usual sizes lie in runs at least as long."""


class Bank(AnyBank):
    """Trainable vectors of one model, attached to it on construction; see `AnyBank`."""

    table: ComponentTable
    mask: Mask

    def _forward_of(self, module: nn.Module, target: Target, index: Tensor) -> Callable[[Tensor], Tensor]:
        length, rows = self.table.d_model, target.axis != "column"
        if target.axis == "entry":  # pieces of rows; a mask has them all
            length = features(module)[1]
            pieces = length // self.table.d_model
            index = index[::pieces] // pieces
        touched = Features(index)

        def forward(inputs: Tensor) -> Tensor:
            piece = self._pieces[target.module].view(-1, length)
            return _Trained.apply(inputs, piece, module.weight, module, touched, rows)

        return forward


class _Trained(torch.autograd.Function):
    """A frozen Linear with trained rows or columns; gradients are of inputs [..., in] and of its piece [k, d_model]."""

    @staticmethod
    def forward(ctx: Any, inputs, piece, weight, module, touched, rows):
        outputs = type(module).forward(module, inputs)  # autocast may choose another dtype
        sums, flat, piece = outputs.flatten(0, -2), inputs.flatten(0, -2).to(outputs.dtype), piece.to(outputs.dtype)
        if rows:
            kept = inputs
            touched.add_product(sums, flat, piece.T)
        else:
            kept = touched.of(flat).contiguous()  # a view would keep all inputs alive
            sums.addmm_(kept, piece)
        ctx.save_for_backward(kept, piece, weight)
        ctx.transposed, ctx.touched, ctx.rows = stored_transposed(module), touched, rows
        ctx.like = inputs.shape, inputs.dtype
        return outputs

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient):
        kept, piece, weight = ctx.saved_tensors
        flat = gradient.flatten(0, -2)
        chosen = ctx.touched.of(flat) if ctx.rows else kept
        of_inputs = of_piece = None
        if ctx.needs_input_grad[0]:
            frozen = weight.to(flat.dtype)
            of_inputs = flat @ (frozen.T if ctx.transposed else frozen)
            if ctx.rows:
                of_inputs.addmm_(chosen, piece)
            else:
                ctx.touched.add_product(of_inputs, flat, piece.T)
            shape, dtype = ctx.like
            of_inputs = of_inputs.view(shape).to(dtype)
        if ctx.needs_input_grad[1]:
            of_piece = chosen.T @ (kept.flatten(0, -2).to(chosen.dtype) if ctx.rows else flat)
        return of_inputs, of_piece, None, None, None, None


class Features:
    """Features of a matrix at sorted positions, int64 [k], without repeats: read and added to by slices where they lie
    together, by index where they do not.
    """

    def __init__(self, index: Tensor):
        self.index = index
        breaks = (torch.diff(index) != 1).nonzero().flatten() + 1
        bounds = [0, *breaks.tolist(), len(index)]
        runs = [(int(index[a]), a, b - a) for a, b in zip(bounds[:-1], bounds[1:], strict=True)]
        self.runs = runs if len(index) >= TOGETHER * len(runs) else None
        """Runs of adjacent features, as (first feature, its place in the index, length)."""

    def of(self, matrix: Tensor) -> Tensor:
        """These columns of a matrix [n, features]: [n, k]; a view if they are one run."""
        if self.runs is None:
            return matrix.index_select(1, self.index)
        parts = [matrix.narrow(1, first, length) for first, _, length in self.runs]
        return parts[0] if len(parts) == 1 else torch.cat(parts, 1)

    def add_product(self, matrix: Tensor, left: Tensor, right: Tensor) -> None:
        """Add `left` [n, m] @ `right` [m, k] to these columns of `matrix` [n, features], in place."""
        if self.runs is None:
            matrix.index_add_(1, self.index, left @ right)
            return
        for first, at, length in self.runs:
            matrix.narrow(1, first, length).addmm_(left, right.narrow(1, at, length))
