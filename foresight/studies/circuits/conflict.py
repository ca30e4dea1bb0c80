"""Circuit conflict of tasks: do they pull the components that they share in opposite directions? (Own definitions.)

Let C_A and C_B be the circuits (top k by |score|) of tasks A and B, and G_A(c), G_B(c) the gradients of their losses
with respect to the weights of a component c. To first order a small gradient step on c alone for A changes the loss of
B by -(learning rate) <G_A(c), G_B(c)>: where the product is negative, training one task there harms the other. Conflict
is the weighted share of such components among those in both circuits,

    conflict(A, B) = sum of w(c) over c in C_A and C_B with <G_A(c), G_B(c)> < 0 / sum of w(c) over c in C_A and C_B,
    w(c) = min(|score_A(c)| / sum of |score_A| over C_A, |score_B(c)| / sum of |score_B| over C_B):

the smaller of the two shares, so that a component weighs no more than it matters to the task that needs it less. It is
0 if the tasks agree everywhere, 1 if they disagree everywhere, and undefined (NaN) if the circuits share nothing.

The loss of a task is the mean over its examples of the mean cross-entropy over their labelled tokens. What is computed
is the product of the gradients of every pair of examples (`foresight.studies.circuits.gradients`), of which means,
halves and resamples of examples are weighted sums.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from torch import nn

from ...common.errors import ConfigError
from ...trajectory.metrics import top_k
from .floors import (
    UNDEFINED,
    Floor,
    Measured,
    MeasuredMatrix,
    floor_of,
    half_weights,
    higher,
    interval,
    resampling_weights,
)
from .gradients import gradient_products

if TYPE_CHECKING:
    from ...model.components import ComponentTable
    from ...scoring.probes import Probe

MOST_TASKS = 6
"""Pairs grow with the square; every pair costs a backward pass over both probes."""


@dataclass(frozen=True, eq=False)
class CircuitConflict:
    """Conflict of every two tasks, symmetric; 0 on the diagonal.

    Attributes:
        tasks: their names, in the order of the matrices.
        conflict: share in [0, 1], NaN where the circuits share nothing. Its floor is the conflict of one half of a
            task's examples with the other half, on the same components with the same weights; of the two tasks', the
            higher.
        shared: int64 [tasks, tasks], components in both circuits.
        opposed: for every two tasks (a, b) with a before b, table positions of the shared components that they pull in
            opposite directions, heaviest first.
    """

    tasks: tuple[str, ...]
    conflict: MeasuredMatrix
    shared: np.ndarray
    opposed: dict[tuple[str, str], tuple[int, ...]]


def circuit_conflict(
    model: nn.Module,
    table: ComponentTable,
    probes: Mapping[str, Probe],
    scores: Mapping[str, np.ndarray],
    k: int,
    seed: int = 0,
) -> CircuitConflict:
    """Measure the conflict of two to six tasks on one model.

    Args:
        probes: task -> at least two examples; only clean prompts and their targets are read.
        scores: task -> [n_components], of the same model.
        k: size of a circuit.

    Raises:
        ConfigError: fewer than two tasks or more than six, scores that are missing or not one per component, k out of
            range, a probe of one example.
        NonFiniteError: a score is NaN or infinite.
    """
    tasks = tuple(probes)
    _check(tasks, scores, table)
    circuit = {task: np.sort(top_k(np.abs(scores[task]), k)) for task in tasks}
    share = {task: np.abs(scores[task]) / max(np.abs(scores[task])[circuit[task]].sum(), 1e-300) for task in tasks}
    n = [probes[task].n_examples for task in tasks]
    drawn = [resampling_weights(count, seed=seed + i) for i, count in enumerate(n)]  # tasks' examples are independent
    halves = [half_weights(count, seed=seed) for count in n]

    own = [gradient_products(model, table, probes[task], probes[task], circuit[task]) for task in tasks]

    def floor(i: int, components: np.ndarray, weight: np.ndarray) -> Floor:
        products = own[i][np.isin(circuit[tasks[i]], components)]
        return floor_of(_opposed_share(_mixed(products, *halves[i]), weight))

    cells = [[UNDEFINED] * len(tasks) for _ in tasks]
    shared = np.zeros((len(tasks), len(tasks)), np.int64)
    opposed: dict[tuple[str, str], tuple[int, ...]] = {}
    for i, a in enumerate(tasks):
        noise = floor(i, circuit[a], share[a][circuit[a]])
        cells[i][i] = Measured(0.0, 0.0, 0.0, float(noise.mean), float(noise.high))
        shared[i, i] = k
        for j, b in list(enumerate(tasks))[i + 1 :]:
            both = np.intersect1d(circuit[a], circuit[b])
            shared[i, j] = shared[j, i] = len(both)
            opposed[a, b] = ()
            if not len(both):
                continue
            weight = np.minimum(share[a], share[b])[both]
            products = gradient_products(model, table, probes[a], probes[b], both)
            mean = products.mean((1, 2))
            low, high = interval(_opposed_share(_mixed(products, drawn[i], drawn[j]), weight), min(n[i], n[j]))
            noise = higher(floor(i, both, weight), floor(j, both, weight))
            numbers = (_opposed_share(mean, weight), low, high, noise.mean, noise.high)
            cells[i][j] = cells[j][i] = Measured(*map(float, numbers))
            opposed[a, b] = tuple(int(c) for c in both[np.argsort(-weight, kind="stable")] if mean[both == c] < 0)
    return CircuitConflict(tasks, MeasuredMatrix.of(cells), shared, opposed)


def _mixed(products: np.ndarray, weights_a: np.ndarray, weights_b: np.ndarray) -> np.ndarray:
    """Products of weighted mean gradients, [replicates, components], from products of examples.

    `weights_a` and `weights_b` are [replicates, examples of a (b)].
    """
    return np.stack([((weights_a @ of_component) * weights_b).sum(1) for of_component in products], 1)


def _opposed_share(products: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """The equation of the module docstring: [...] from products [..., components] and weights [components]."""
    total = weight.sum()
    return (weight * (products < 0)).sum(-1) / (total if total > 0 else np.nan)


def _check(tasks: Sequence[str], scores: Mapping[str, np.ndarray], table: ComponentTable) -> None:
    if not 2 <= len(tasks) <= MOST_TASKS:
        raise ConfigError(f"conflict of {len(tasks)} tasks; expected between 2 and {MOST_TASKS}")
    for task in tasks:
        found = np.shape(scores[task]) if task in scores else None
        if found != (len(table),):
            raise ConfigError(
                f"scores of task {task!r}: {'none' if found is None else f'shape {found}'}; expected shape "
                f"({len(table)},), one score per component"
            )
