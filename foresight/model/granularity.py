"""How fine a mask is: whole components, single vectors, or single weights."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from ..common.errors import ConfigError
from .components import Component, ComponentTable, component_table
from .numbering import Numbering
from .weight_table import weight_table

if TYPE_CHECKING:
    from torch import nn

GRANULARITIES = ("components", "vectors", "weights")


def table_of(model: nn.Module, granularity: str, mlp_block: int | None = None) -> ComponentTable:
    """Return the table that a run's scores, trajectory and report refer to.

    It lists components, or with granularity "vectors" every vector as a component of its own. Runs over single weights
    have the table of whole components, which a report can name.

    Raises:
        ConfigError: `mlp_block` with a granularity that has no MLP blocks.
        ArchitectureError: as `component_table`.
    """
    if granularity == "components":
        return component_table(model, mlp_block)
    if mlp_block is not None:
        raise ConfigError(f"mlp_block is {mlp_block}, but granularity {granularity!r} has no MLP blocks; remove it")
    return vector_table(model) if granularity == "vectors" else component_table(model)


def numbering_of(model: nn.Module, unit: str) -> Numbering:
    """Return the table that the ids of a ledger or delta refer to; `unit` is "vectors" or "weights"."""
    return weight_table(model) if unit == "weights" else component_table(model)


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
