"""The units of a mask of single weights: each weight has a number."""

from __future__ import annotations

import hashlib
import json
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ..common.plugins import part
from .components import component_table
from .numbering import Numbering, Target

if TYPE_CHECKING:
    from torch import nn


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
    """Return the table that the ids of a ledger or delta refer to, by its `unit`."""
    if unit == "pieces of rows":
        return part("model.vector_table.row_table")(model)
    return weight_table(model) if unit == WeightTable.unit else component_table(model)
