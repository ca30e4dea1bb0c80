"""Circuit conflict of tasks: do they pull the components that they share in opposite directions? (Own definitions.)

Let C_A and C_B be the circuits (top k by |score|) of tasks A and B, and G_A(c), G_B(c) the gradients of their losses
with respect to the weights of a component c. To first order, a small gradient step for A on c alone changes the loss of
B by -(learning rate) <G_A(c), G_B(c)>. Where the product is negative, training one task there harms the other. Conflict
is the weighted share of such components among those in both circuits,

    conflict(A, B) = sum of w(c) over c in C_A and C_B with <G_A(c), G_B(c)> < 0 / sum of w(c) over c in C_A and C_B,
    w(c) = min(|score_A(c)| / sum of |score_A| over C_A, |score_B(c)| / sum of |score_B| over C_B).

A component weighs no more than it matters to the task that needs it less. Conflict is 0 if the tasks agree everywhere,
1 if they disagree everywhere, and NaN if the circuits share no component.

The loss of a task is the mean over its examples of the mean cross-entropy over their labelled tokens. The code computes
the product of the gradients of every pair of examples; means, halves and resamples of examples are weighted sums of
these. No gradient is held: the gradient of the weights of a Linear is D^T X, with its inputs X [tokens, in] and the
gradients D [tokens, out] at its outputs. For an example i of one task and j of another,

    <row r of G_i, row r of G_j> = sum over tokens s of i and t of j of (X_i X_j^T)[s, t] D_i[s, r] D_j[t, r]

and likewise for columns, with X and D exchanged. So X and D of one task are kept while the other streams past.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from itertools import combinations
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ...model.components import ComponentTable, Slice
from ...scoring.goodness import goodness
from ...scoring.probes import Batch, Probe
from ...scoring.scorer import scoring_mode
from ...scoring.taps import Site, embeddings, record
from ...trajectory.metrics import top_k
from .floors import UNDEFINED, Ends, floor_of, half_weights, higher, interval, measured, resampling_weights

Factors = dict[str, tuple[Tensor, Tensor]]
"""Module -> (inputs [B, T, in], gradients at the outputs [B, T, out]), in the model's dtype."""


def circuit_conflict(
    model: nn.Module,
    table: ComponentTable,
    probes: Mapping[str, Probe],
    scores: Mapping[str, np.ndarray],
    k: int,
) -> list[dict[str, Any]]:
    """Measure the conflict of every two tasks on one model; each pair costs a backward pass over both probes.

    Args:
        probes: task -> at least two examples; only clean prompts and their targets are read.
        scores: task -> [n_components], of the same model.
        k: size of a circuit.

    Returns:
        For every two tasks: task_a, task_b, the conflict as columns of `Measured` (NaN if the circuits share nothing),
        shared (number of components in both circuits) and opposed (names of those that the tasks pull in opposite
        directions, by falling weight). The floor is the conflict between two halves of one task's examples, over the
        same components with the same weights: the higher of the two tasks' floors.

    Raises:
        ConfigError: k out of range, a probe of one example.
        NonFiniteError: a score is NaN or infinite.
    """
    tasks = tuple(probes)
    circuit = {task: np.sort(top_k(np.abs(scores[task]), k)) for task in tasks}
    share = {task: np.abs(scores[task]) / max(np.abs(scores[task])[circuit[task]].sum(), 1e-300) for task in tasks}
    n = {task: probes[task].n_examples for task in tasks}
    # The tasks' examples are independent, so each task has its own draws.
    drawn = {task: resampling_weights(n[task], seed=i) for i, task in enumerate(tasks)}
    own = {task: gradient_products(model, table, probes[task], probes[task], circuit[task]) for task in tasks}

    def floor(task: str, components: np.ndarray, weight: np.ndarray) -> Ends:
        products = own[task][np.isin(circuit[task], components)]
        return floor_of(_opposed_share(_mixed(products, *half_weights(n[task])), weight))

    rows: list[dict[str, Any]] = []
    for a, b in combinations(tasks, 2):
        both, value, opposed = np.intersect1d(circuit[a], circuit[b]), UNDEFINED, []
        if len(both):
            weight = np.minimum(share[a], share[b])[both]
            products = gradient_products(model, table, probes[a], probes[b], both)
            mean = products.mean((1, 2))
            ends = interval(_opposed_share(_mixed(products, drawn[a], drawn[b]), weight), min(n[a], n[b]))
            noise = higher(floor(a, both, weight), floor(b, both, weight))
            (value,) = measured(_opposed_share(mean, weight), ends, noise)
            opposed = [str(table.name[c]) for c in both[np.argsort(-weight, kind="stable")] if mean[both == c] < 0]
        rows.append({"task_a": a, "task_b": b, **asdict(value), "shared": len(both), "opposed": opposed})
    return rows


def _mixed(products: np.ndarray, weights_a: np.ndarray, weights_b: np.ndarray) -> np.ndarray:
    """Products of weighted mean gradients, [replicates, components], from products of examples.

    `weights_a` and `weights_b` are [replicates, examples of a (b)].
    """
    return np.stack([((weights_a @ of_component) * weights_b).sum(1) for of_component in products], 1)


def _opposed_share(products: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """The equation of the module docstring: [...] from products [..., components] and weights [components]."""
    total = weight.sum()
    return (weight * (products < 0)).sum(-1) / (total if total > 0 else np.nan)


def gradient_products(
    model: nn.Module, table: ComponentTable, probe_a: Probe, probe_b: Probe, components: Sequence[int] | np.ndarray
) -> np.ndarray:
    """<gradient of example i of a, gradient of example j of b> over the weights of each component, by table position:
    float64 [len(components), n_examples of a, n_examples of b], in the order of the batches; computed in float32.

    The mean over all pairs is the product of the gradients of the two mean losses. No `.grad` is written.
    """
    by_module: dict[str, list[tuple[int, Slice]]] = {}
    for place, component in enumerate(components):
        for s in table.components[component].slices:
            by_module.setdefault(s.module, []).append((place, s))
    with scoring_mode(model):
        kept = [_factors(model, by_module, batch) for batch in probe_a.batches]
        streamed = kept if probe_b is probe_a else (_factors(model, by_module, batch) for batch in probe_b.batches)
        columns = [torch.cat([_products(by_module, len(components), a, b) for a in kept], 1) for b in streamed]
    return torch.cat(columns, 2).double().cpu().numpy()


def _factors(model: nn.Module, modules: Iterable[str], batch: Batch) -> Factors:
    """One forward and backward pass over a batch; the losses are summed, so that no example affects another's D."""
    batch, names = batch.to(model.device), list(modules)
    nobody = torch.empty(0)  # whole modules are read here, not the parts that components own
    places = [Site(name, side, nobody) for side in ("input", "output") for name in names]
    with torch.enable_grad(), embeddings(model):
        seen = record(model, places, batch)
        inputs, outputs = seen.activations[: len(names)], seen.activations[len(names) :]
        gradients = torch.autograd.grad(-goodness("loss", model, seen.hidden, batch).sum(), outputs)
    return {name: (x.detach(), d) for name, x, d in zip(names, inputs, gradients, strict=True)}


def _products(by_module: dict[str, list[tuple[int, Slice]]], n: int, a: Factors, b: Factors) -> Tensor:
    """float32 [n, examples of a, examples of b]: the equation above, summed over the slices of each component."""
    first_a, first_b = (next(iter(factors.values()))[0] for factors in (a, b))
    total = torch.zeros(n, len(first_a), len(first_b), device=first_a.device)
    for module, slices in by_module.items():
        row_wise = slices[0][1].axis == "row"  # all slices of a module have one axis
        (whole_a, part_a), (whole_b, part_b) = (x if row_wise else x[::-1] for x in (a[module], b[module]))
        tokens, shape = _outer(whole_a, whole_b), (*whole_a.shape[:2], *whole_b.shape[:2])
        for place, s in slices:
            product = tokens * _outer(part_a[..., s.start : s.stop], part_b[..., s.start : s.stop])
            total[place] += product.view(shape).sum((1, 3))
    return total


def _outer(x: Tensor, y: Tensor) -> Tensor:
    """Inner products of every token of x with every token of y: float32 [tokens of x, tokens of y]."""
    return x.flatten(0, 1).float() @ y.flatten(0, 1).float().T
