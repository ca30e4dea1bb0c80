"""The units of a mask of single vectors: each row and column of a component is a component of its own."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from .components import Component, ComponentTable, component_table

if TYPE_CHECKING:
    from torch import nn


def vector_table(model: nn.Module) -> ComponentTable:
    """Return a table in which every row and column is a component of its own.

    A vector has the kind and layer of the component that it comes from (a single neuron in the MLP). Its name consists
    of that component, its Linear and its position there, as in "L0.head.2.q_proj.17"; `index` counts within layer and
    kind. It has no taps, because a single row has no activation that could be patched.

    Raises:
        ArchitectureError: as `component_table`.
    """
    table = component_table(model, mlp_block=1)
    vectors: list[Component] = []
    seen: Counter[tuple[int, str]] = Counter()
    for parent in table:
        for piece in parent.slices:
            leaf = piece.module.rsplit(".", 1)[-1]
            for i in range(piece.start, piece.stop):
                index = seen[parent.layer, parent.kind]
                seen[parent.layer, parent.kind] += 1
                cut = (type(piece)(piece.module, piece.axis, i, i + 1),)
                vectors.append(Component(f"{parent.name}.{leaf}.{i}", parent.layer, parent.kind, index, cut, ()))
    return ComponentTable(vectors, table.targets, table.d_model, table.model_parameters)
