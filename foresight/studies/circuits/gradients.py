"""Inner products of the weight gradients of two sets of examples, component by component, without the gradients.

For a Linear with inputs X [tokens, in] and gradients D [tokens, out] at its outputs, the gradient of the weights is
D^T X. For an example i of one set and j of another,

    <row r of G_i, row r of G_j> = sum over tokens s of i and t of j of (X_i X_j^T)[s, t] D_i[s, r] D_j[t, r]

and likewise for columns, with X and D exchanged. So it is enough to keep X and D of one set while the other set streams
past batch by batch: tokens x features numbers per example instead of a matrix of the model's size.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import ExitStack

import numpy as np
import torch
from torch import Tensor, nn

from ...model.components import ComponentTable, Slice
from ...scoring.goodness import goodness
from ...scoring.probes import Batch, Probe
from ...scoring.taps import embeddings, logits_of, scoring_mode

Factors = dict[str, tuple[Tensor, Tensor]]
"""Module -> (inputs [B, T, in], gradients at the outputs [B, T, out]), in the model's dtype."""


def gradient_products(
    model: nn.Module, table: ComponentTable, probe_a: Probe, probe_b: Probe, components: Sequence[int] | np.ndarray
) -> np.ndarray:
    """<gradient of example i of a, gradient of example j of b> over the weights of each component.

    The gradients are those of an example's mean cross-entropy over its labelled tokens. The mean over all pairs is the
    product of the gradients of the two mean losses. No `.grad` is written.

    Args:
        components: table positions.

    Returns:
        float64 [len(components), n_examples of a, n_examples of b], in the order of the batches; computed in float32.
    """
    by_module: dict[str, list[tuple[int, Slice]]] = {}
    for place, component in enumerate(components):
        for s in table.components[component].slices:
            by_module.setdefault(s.module, []).append((place, s))
    with scoring_mode(model):
        kept = [_factors(model, by_module, batch) for batch in probe_a.batches]
        streamed: Iterable[Factors] = kept
        if probe_b is not probe_a:
            streamed = (_factors(model, by_module, batch) for batch in probe_b.batches)
        columns = [torch.cat([_products(by_module, len(components), a, b) for a in kept], 1) for b in streamed]
    return torch.cat(columns, 2).double().cpu().numpy()


def _factors(model: nn.Module, modules: Iterable[str], batch: Batch) -> Factors:
    """One forward and backward pass over a batch; the losses are summed, so that no example affects another's D."""
    inputs: dict[str, Tensor] = {}
    gradients: dict[str, Tensor] = {}

    def keep(name: str, inputs_of_module: Tensor, output: Tensor) -> None:
        inputs[name] = inputs_of_module.detach()
        output.register_hook(lambda gradient: gradients.update({name: gradient}))

    batch = batch.to(model.device)
    with torch.enable_grad(), embeddings(model) as leaves:
        with ExitStack() as stack:
            for name in modules:
                handle = model.get_submodule(name).register_forward_hook(
                    lambda module, args, output, name=name: keep(name, args[0], output)
                )
                stack.callback(handle.remove)
            loss = -goodness("loss", logits_of(model, batch), batch).sum()
        torch.autograd.grad(loss, leaves[0])
    return {name: (inputs[name], gradients[name]) for name in inputs}


def _products(by_module: dict[str, list[tuple[int, Slice]]], n: int, a: Factors, b: Factors) -> Tensor:
    """float32 [n, examples of a, examples of b]: the equation above, summed over the slices of each component."""
    total: Tensor | None = None
    for module, slices in by_module.items():
        row_wise = slices[0][1].axis == "row"  # all slices of a module have one axis
        (whole_a, part_a), (whole_b, part_b) = (x if row_wise else x[::-1] for x in (a[module], b[module]))
        tokens = _outer(whole_a, whole_b)
        if total is None:
            total = tokens.new_zeros(n, len(whole_a), len(whole_b))
        for place, s in slices:
            product = tokens * _outer(part_a[..., s.start : s.stop], part_b[..., s.start : s.stop])
            shape = (*whole_a.shape[:2], *whole_b.shape[:2])
            total[place] += product.view(shape).sum((1, 3))
    assert total is not None
    return total


def _outer(x: Tensor, y: Tensor) -> Tensor:
    """Inner products of every token of x with every token of y: float32 [tokens of x, tokens of y]."""
    return x.flatten(0, 1).float() @ y.flatten(0, 1).float().T
