"""Single weights as what a mask is made of: every entry of every target Linear has a number."""

from __future__ import annotations

import hashlib
import json
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from .components import component_table
from .numbering import Numbering, Target

if TYPE_CHECKING:
    from torch import nn


class WeightTable(Numbering):
    """The weights of the same Linears that components are made of.

    The id of a weight is its target's offset plus its position in the flattened stored tensor, as `module.weight` (and
    a state dict) has it. A weight is a vector of length 1: `d_model` is 1, so that bank, optimizer, ledger and their
    files are those of vectors.
    """

    unit: ClassVar[str] = "weights"
    smallest = 1

    @cached_property
    def hash(self) -> str:
        text = json.dumps(["weights", [[t.module, t.n] for t in self.targets]])
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def vector_ids(self, components) -> np.ndarray:
        """The ids themselves."""
        return np.asarray(components, np.int64)


def weight_table(model: nn.Module) -> WeightTable:
    """Number the weights of a stock Hugging Face causal LM; nothing is changed in it.

    Raises:
        ArchitectureError: an unknown family, as for `component_table`.
    """
    table = component_table(model)
    targets, offset = [], 0
    for target in table.targets:
        n = target.n * table.d_model
        targets.append(Target(target.module, "entry", n, offset))
        offset += n
    return WeightTable(targets, 1, table.model_parameters)
