"""Granularities `vectors` and `rows`: masks of single rows and columns, or of rows of every matrix."""

from __future__ import annotations

from torch import nn

from ..common.errors import ConfigError, one_of
from ..model.components import ComponentTable
from ..model.vector_table import row_table, vector_table
from ..scoring import SCORERS
from .granularity import Granularity

OF_VECTORS = ("gradient", "utility", "movement", "weight_gradient")
"""Scorers that can score a single vector."""


class OfVectors(Granularity):
    name = "vectors"

    def table(self, model: nn.Module, mlp_block: int | None) -> ComponentTable:
        return vector_table(model)

    def scorer(self, configured: str, pairs: bool) -> str:
        name = OF_VECTORS[0] if configured == "auto" else one_of("scorer", configured, SCORERS)
        if name not in OF_VECTORS:
            raise ConfigError(
                f"scorer {name!r} reads activations, which a single row or column does not have; with granularity "
                f"{self.name!r} use one of {', '.join(OF_VECTORS)}"
            )
        return name


class OfRows(OfVectors):
    name = "rows"

    def table(self, model: nn.Module, mlp_block: int | None) -> ComponentTable:
        return row_table(model)
