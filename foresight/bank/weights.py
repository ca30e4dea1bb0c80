"""The bank of single weights: as many differences to frozen weights as the budget buys, anywhere in the matrices.

Everything but the forward pass is the bank of vectors': a weight is a vector of length 1, with a value, two moments and
an age of its own, folded and recorded in the ledger when it leaves.

The base is never written to between re-masks. A touched Linear puts its weight in effect together when it computes and
drops it again, in the forward and in the backward pass, so that autograd keeps no copy of the model. Of its gradient
either the chosen entries alone are computed, or one dense matrix is formed, of which they are kept and the rest is
dropped before the next Linear's turn: on a CPU the former is up to ten times as fast where few entries are chosen.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from ..masks.masks import WeightMask
from ..model.components import stored_transposed
from ..model.numbering import Target
from ..model.weight_table import WeightTable
from .base import AnyBank

FEW = 0.01
"""Share of a weight's entries up to which they alone are computed on a CPU: at .4 % that takes a tenth to a quarter of
the dense product's time, for 200 to 2,000 tokens."""


class WeightBank(AnyBank):
    """Trainable single weights of one model, attached to it on construction; see `AnyBank`. Weights of ZeRO 3 are not
    supported.

    Attributes:
        vectors: float32 Parameter [n_weights, 1], the differences to the base.
        ids: int64 [n_active], sorted weight ids. Each takes 8 bytes on the CPU and 8 on the device (on a CPU 20, with
            the pattern of its gradients).
    """

    table: WeightTable
    mask: WeightMask
    nothing = WeightMask(np.zeros(0, np.int64))

    @property
    def _computed(self) -> torch.dtype:
        return self.vectors.dtype  # as they are: a bf16 weight in effect is rounded once, from the sum in fp32

    def _forward_of(self, module: nn.Module, target: Target, index: Tensor) -> Callable[[Tensor], Tensor]:
        pattern = _pattern(index, module.weight)

        def forward(inputs: Tensor) -> Tensor:
            piece, kind = self._pieces[target.module], inputs.device.type
            dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else inputs.dtype
            bias = None if module.bias is None else module.bias.to(dtype)
            transposed = stored_transposed(module)
            return _SparselyTrained.apply(inputs.to(dtype), piece, module.weight, bias, index, transposed, pattern)

        return forward


class _SparselyTrained(torch.autograd.Function):
    """A Linear with a frozen weight whose entries at `index` have trained differences; `pattern` is of `_pattern`."""

    @staticmethod
    def forward(ctx: Any, inputs, piece, weight, bias, index, transposed, pattern):
        ctx.save_for_backward(inputs, piece, weight, index)
        ctx.transposed, ctx.pattern = transposed, pattern
        matrix = _in_effect(weight, index, piece).to(inputs.dtype)
        return F.linear(inputs, matrix.T if transposed else matrix, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient):
        inputs, piece, weight, index = ctx.saved_tensors
        of_inputs = of_piece = None
        if ctx.needs_input_grad[0]:
            matrix = _in_effect(weight, index, piece).to(gradient.dtype)
            of_inputs = gradient @ (matrix.T if ctx.transposed else matrix)
            del matrix
        if ctx.needs_input_grad[1]:
            sides = gradient.flatten(0, -2), inputs.flatten(0, -2)
            rows, columns = sides[::-1] if ctx.transposed else sides
            if ctx.pattern is not None and rows.dtype == torch.float32:
                entries = torch.sparse.sampled_addmm(ctx.pattern, rows.T, columns, beta=0.0).values()
            else:
                entries = (rows.T @ columns).view(-1).index_select(0, index)
            of_piece = entries.to(piece.dtype)[:, None]
        return of_inputs, of_piece, None, None, None, None, None


def _pattern(index: Tensor, weight: Tensor) -> Tensor | None:
    """A sparse matrix (CSR) with zeros at the entries `index` (sorted) of a stored weight; None where a dense product
    is the better way to their gradients."""
    if weight.device.type != "cpu" or not 0 < len(index) <= FEW * weight.numel():
        return None
    rows, columns = weight.shape
    ends = torch.bincount(index // columns, minlength=rows).cumsum(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # torch calls its sparse matrices beta
        return torch.sparse_csr_tensor(
            torch.cat([ends.new_zeros(1), ends]), index % columns, torch.zeros(len(index)), (rows, columns)
        )


def _in_effect(weight: Tensor, index: Tensor, piece: Tensor) -> Tensor:
    """A copy of a stored weight with `piece` (float32 [k, 1]) added to the entries at `index`, rounded once."""
    copy = weight.detach().clone()
    entries = copy.view(-1)
    sums = entries.index_select(0, index).float() + piece.flatten()  # a third of the time that indexing by [] takes
    entries.index_copy_(0, index, sums.to(copy.dtype))
    return copy
