"""The alternative to a bank that was measured and not built: masked vectors trained where they lie, in whole weights.

Linears compute as they always do and only their weight gradients are sliced, so that nothing is added in either pass;
in return the new values have to be written into the weights after every step, and weights that are sharded or in
bfloat16 could not be trained so. Measured next to the bank to know what that leaves on the table.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from foresight.bank.base_weights import as_vectors
from foresight.bank.features import Features
from foresight.components import component_table
from foresight.numbering import Target
from foresight.selection import budget_vectors, select

from .arms import Arm, Place, random_scores

BUDGET = 0.05


class _Sliced(torch.autograd.Function):
    """A Linear; gradients are of its inputs [..., in] and of the trained vectors [k, d_model] of its weight."""

    @staticmethod
    def forward(ctx: Any, inputs, values, weight, axis, trained):
        ctx.shape, ctx.axis, ctx.trained = inputs.shape, axis, trained
        flat = inputs.flatten(0, -2)
        ctx.save_for_backward(flat if axis == "row" else trained.of(flat).contiguous(), weight)
        return nn.functional.linear(inputs, weight)

    @staticmethod
    def backward(ctx: Any, gradient):
        kept, weight = ctx.saved_tensors
        flat = gradient.flatten(0, -2)
        of_inputs = (flat @ weight).view(ctx.shape) if ctx.needs_input_grad[0] else None
        of_values = ctx.trained.of(flat).T @ kept if ctx.axis == "row" else kept.T @ flat
        return of_inputs, of_values, None, None, None


def in_place(place: Place) -> Arm:
    """The mask of `bank_5pct`, for a model whose Linears have neither biases nor shards."""
    model = place.model().requires_grad_(False)
    table = component_table(model)
    mask = select(random_scores(table), table, budget_vectors(table, BUDGET))
    parts: list[tuple[Target, Tensor, nn.Parameter]] = []
    for target, part in table.by_target(ids := torch.as_tensor(table.vector_ids(mask.components))):
        local = (ids[part] - target.offset).to(place.device)
        module = model.get_submodule(target.module)
        values = nn.Parameter(as_vectors(module.weight, module, target.axis)[local].clone())
        _attach(module, target, Features(local), values)
        parts.append((target, local, values))

    def write(steps: int) -> None:
        for target, local, values in parts:
            module = model.get_submodule(target.module)
            as_vectors(module.weight.data, module, target.axis).index_copy_(0, local, values.data)

    return place.arm(model, [values for _, _, values in parts], after=write)


def _attach(module: nn.Module, target: Target, trained: Features, values: nn.Parameter) -> None:
    module.forward = lambda inputs: _Sliced.apply(inputs, values, module.weight, target.axis, trained)
