"""Circuit conflict of tasks: do they pull the components that they share in opposite directions? (Own definitions.)

Let C_A and C_B be the circuits (top k by |score|) of tasks A and B, and G_A(c), G_B(c) the gradients of their losses
with respect to the weights of a component c. To first order, a small gradient step for A on c alone changes the loss of
B by -(learning rate) <G_A(c), G_B(c)>. Where the product is negative, training one task there harms the other. Conflict
is the weighted share of such components among those in both circuits,

    conflict(A, B) = sum of w(c) over c in C_A and C_B with <G_A(c), G_B(c)> < 0 / sum of w(c) over c in C_A and C_B,
    w(c) = min(|score_A(c)| / sum of |score_A| over C_A, |score_B(c)| / sum of |score_B| over C_B).

The weight is the smaller of the two shares, so that a component weighs no more than it matters to the task that needs
it less. Conflict is 0 if the tasks agree everywhere, 1 if they disagree everywhere, and NaN if the circuits share no
component.

The loss of a task is the mean over its examples of the mean cross-entropy over their labelled tokens. The code computes
the product of the gradients of every pair of examples (`foresight.studies.circuits.gradients`); means, halves and
resamples of examples are weighted sums of these products.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from torch import nn

from ...model.components import ComponentTable
from ...scoring.probes import Probe
from ...trajectory.metrics import top_k
from .floors import UNDEFINED, Ends, Measured, floor_of, half_weights, higher, interval, measured, resampling_weights
from .gradients import gradient_products


@dataclass(frozen=True)
class CircuitConflict:
    """Conflict of two tasks.

    Attributes:
        share: conflict in [0, 1], NaN if the circuits share nothing. Its floor is the conflict between two halves of
            one task's examples, over the same components with the same weights: the higher of the two tasks' floors.
        shared: number of components in both circuits.
        opposed: table positions of the shared components that the tasks pull in opposite directions, by falling weight.
    """

    share: Measured
    shared: int
    opposed: tuple[int, ...]


def circuit_conflict(
    model: nn.Module,
    table: ComponentTable,
    probes: Mapping[str, Probe],
    scores: Mapping[str, np.ndarray],
    k: int,
) -> dict[tuple[str, str], CircuitConflict]:
    """Measure the conflict of every two tasks on one model; each pair costs a backward pass over both probes.

    Args:
        probes: task -> at least two examples; only clean prompts and their targets are read.
        scores: task -> [n_components], of the same model.
        k: size of a circuit.

    Returns:
        (a, b) -> conflict, for every two tasks with a before b in `probes`.

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

    found: dict[tuple[str, str], CircuitConflict] = {}
    for a, b in combinations(tasks, 2):
        both = np.intersect1d(circuit[a], circuit[b])
        if not len(both):
            found[a, b] = CircuitConflict(UNDEFINED, 0, ())
            continue
        weight = np.minimum(share[a], share[b])[both]
        products = gradient_products(model, table, probes[a], probes[b], both)
        mean = products.mean((1, 2))
        ends = interval(_opposed_share(_mixed(products, drawn[a], drawn[b]), weight), min(n[a], n[b]))
        noise = higher(floor(a, both, weight), floor(b, both, weight))
        (value,) = measured(_opposed_share(mean, weight), ends, noise)
        opposed = tuple(int(c) for c in both[np.argsort(-weight, kind="stable")] if mean[both == c] < 0)
        found[a, b] = CircuitConflict(value, len(both), opposed)
    return found


def _mixed(products: np.ndarray, weights_a: np.ndarray, weights_b: np.ndarray) -> np.ndarray:
    """Products of weighted mean gradients, [replicates, components], from products of examples.

    `weights_a` and `weights_b` are [replicates, examples of a (b)].
    """
    return np.stack([((weights_a @ of_component) * weights_b).sum(1) for of_component in products], 1)


def _opposed_share(products: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """The equation of the module docstring: [...] from products [..., components] and weights [components]."""
    total = weight.sum()
    return (weight * (products < 0)).sum(-1) / (total if total > 0 else np.nan)
