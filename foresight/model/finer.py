"""Finer units of a mask than components: single vectors, each with a name, and single weights, each with a number."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from .components import Component, ComponentTable, component_table
from .numbering import Numbering, Target

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


class WeightTable(Numbering):
    """The weights of the same Linears that components are made of.

    A weight's id is its target's offset plus its position in the flattened stored tensor (`module.weight`, as in a
    state dict). A weight is a vector of length 1: with `d_model` 1, the optimizer, the ledger and their files are the
    same as for vectors.
    """

    unit: ClassVar[str] = "weights"
    smallest = 1

    @cached_property
    def hash(self) -> str:
        text = json.dumps(["weights", [[t.module, t.n] for t in self.targets]])
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def vector_ids(self, components) -> np.ndarray:
        """Return the ids as they are: each unit is one weight."""
        return np.asarray(components, np.int64)


def weight_table(model: nn.Module) -> WeightTable:
    """Number the weights of a stock Hugging Face causal LM, which is not changed.

    Raises:
        ArchitectureError: as `component_table`.
    """
    table = component_table(model)
    targets, offset = [], 0
    for target in table.targets:
        n = target.n * table.d_model
        targets.append(Target(target.module, "entry", n, offset))
        offset += n
    return WeightTable(targets, 1, table.model_parameters)


def numbering_of(model: nn.Module, unit: str) -> Numbering:
    """Return the table that the ids of a ledger or delta refer to; `unit` is "vectors" or "weights"."""
    return weight_table(model) if unit == "weights" else component_table(model)
