"""Weight gradients from taps, one matrix at a time, so that each can be reduced before the next one is formed.

No parameter needs to require grad, and no `.grad` is written: a target's gradient is the product of the gradient at its
output and its input, formed in float32 during the backward pass and then dropped.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from .goodness import batch_loss
from .probes import Batch
from .taps import Watched, embeddings, hidden_of

if TYPE_CHECKING:
    from ..model.components import ComponentTable
    from ..model.numbering import Target

WeightOf = Callable[[str], Tensor]
"""Returns the weight in effect of the target module with that name, as [output features, input features]."""

Weights = Callable[[], WeightOf]
"""Opens the weights in effect as they are now; every process calls it, once per scoring. A model with a bank needs the
bank's; without one, the stored weights are in effect."""


def stored_weight_of(model: nn.Module) -> WeightOf:
    """Return a reader of stored weights, as float32 [output features, input features]."""
    from ..model.components import turned  # imports transformers

    def read(name: str) -> Tensor:
        module = model.get_submodule(name)
        return turned(module.weight.detach().float(), module)

    return read


def vectors_first(matrix: Tensor, target: Target) -> Tensor:
    """Turn [output features, input features] into [n, length], with the target's vectors as rows."""
    return matrix.T if target.axis == "column" else matrix.reshape(target.n, -1)


def weight_gradients(
    model: nn.Module, table: ComponentTable, batch: Batch, consume: Callable[[Target, Tensor], None]
) -> None:
    """Call `consume(target, gradient)` once for every target, in the order of the backward pass.

    The gradient is that of the batch's mean loss (`batch_loss`): float32 [n, d_model], the target's vectors as rows. It
    must not be kept.
    """

    def hook_of(target: Target) -> Callable:
        def see(inputs: Tensor, gradient: Tensor) -> None:
            matrix = gradient.flatten(0, -2).float().T @ inputs.flatten(0, -2).float()
            consume(target, vectors_first(matrix, target))

        return lambda module, args, output: Watched.apply(output, args[0].detach(), see)

    with torch.enable_grad(), embeddings(model) as leaves, ExitStack() as hooks:
        for target in table.targets:
            hooks.enter_context(model.get_submodule(target.module).register_forward_hook(hook_of(target)))
        torch.autograd.grad(batch_loss(model, hidden_of(model, batch), batch), leaves)


def sum_by_owner(table: ComponentTable, by_vector: np.ndarray) -> np.ndarray:
    """Sum numbers per vector, float64 [n_vectors], into numbers per component, float64 [n_components]."""
    return np.bincount(table.owner, weights=by_vector, minlength=len(table))
