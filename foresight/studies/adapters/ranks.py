"""Ranks that fit a budget: which Linears an adapter covers, what a rank costs, and which Linear gets how much."""

from __future__ import annotations

import heapq

from torch import nn

from ...common.errors import BudgetError, TrajectoryError
from ...model.architectures import architecture_of
from ...model.components import component_table, features
from ...trajectory.series import Series


def shapes_of(model: nn.Module) -> dict[str, tuple[int, int]]:
    """(rows, columns) of every Linear that a mask can touch, by full name, in forward order."""
    arch = architecture_of(model)
    layers = range(len(model.get_submodule(arch.layers)))
    names = [f"{arch.layers}.{layer}.{path}" for layer in layers for path in arch.targets()]
    return {name: features(model.get_submodule(name)) for name in names}


def affordable(method: str, per_rank: int, parameters: int, at_least: int = 1, at_most: int | None = None) -> int:
    """The largest rank within `parameters`, up to `at_most`. Raises BudgetError if it is below `at_least`."""
    rank = parameters // per_rank
    if rank < at_least:
        size = "has one size, which" if method == "ia3" else f"at rank {at_least}, its smallest,"
        raise BudgetError(
            f"adapter {method!r} {size} trains {at_least * per_rank} parameters, but only {parameters} are allowed; "
            f"allow at least {at_least * per_rank}, or leave it out"
        )
    return rank if at_most is None else min(rank, at_most)


def circuit_ranks(model: nn.Module, scores: Series, parameters: int) -> dict[str, int]:
    """LoRA ranks that follow component scores, by module name; every Linear that masks can touch has at least 1.

    CircuitLoRA gives a higher rank to the few layers whose circuit edges change most between two checkpoints of a
    fine-tuned model. This variant is our own and needs component scores only. The weight of a Linear is the sum of its
    components' scores, each split over Linears in proportion to the component's vectors there. Ranks beyond the first
    go one by one to the Linear with the largest weight per current rank (D'Hondt's rule, so that ranks are proportional
    to weights) as long as they fit. No rank exceeds the smaller side of its matrix, beyond which it would add nothing.

    Args:
        scores: of components with any `mlp_block`; the last snapshot is used.

    Raises:
        BudgetError: too few parameters for rank 1 everywhere.
        TrajectoryError: the scores have a layer and kind that the model does not have.
    """
    shapes, weights = shapes_of(model), _weights(model, scores)
    cost = {name: sum(shape) for name, shape in shapes.items()}
    names, ranks = list(shapes), dict.fromkeys(shapes, 1)
    left = parameters - affordable("circuit_lora", sum(cost.values()), parameters, at_most=1) * sum(cost.values())
    queue = [(-weights[name], 1, at) for at, name in enumerate(names)]  # ties: lower rank first, then model order
    heapq.heapify(queue)
    while queue:
        _, rank, at = heapq.heappop(queue)
        name = names[at]
        if rank < min(shapes[name]) and cost[name] <= left:
            left -= cost[name]
            ranks[name] = rank + 1
            heapq.heappush(queue, (-weights[name] / (rank + 1), rank + 1, at))
    return ranks


def _weights(model: nn.Module, scores: Series) -> dict[str, float]:
    """The weights of `circuit_ranks`. Components of one layer and kind are spread over the same Linears alike."""
    shares: dict[tuple[int, str], dict[str, float]] = {}
    for component in component_table(model):
        parts: dict[str, float] = {}
        for piece in component.slices:
            parts[piece.module] = parts.get(piece.module, 0.0) + len(piece) / component.n_vectors
        shares[component.layer, component.kind] = parts
    weights = dict.fromkeys(shapes_of(model), 0.0)
    columns = (scores.layer.tolist(), scores.kind.tolist(), scores.values[:, -1].tolist())
    for layer, kind, score in zip(*columns, strict=True):
        if (layer, kind) not in shares:
            raise TrajectoryError(
                f"the scores have a component of kind {kind!r} in layer {layer}, where this model has none; "
                "use scores of the same model"
            )
        for name, share in shares[layer, kind].items():
            weights[name] += share * score
    return weights
