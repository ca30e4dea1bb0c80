"""Granularity `weights`: masks of single weights."""

from __future__ import annotations

from typing import Any

from torch import nn

from ...bank import AnyBank
from ...bank.weights import WeightBank
from ...masks.masks import WeightMask, every_weight
from ...model.components import ComponentTable
from ...model.finer import WeightTable, weight_table
from ...model.numbering import Numbering
from ...scoring.probes import Probe
from ..granularity import Granularity
from .simple import SCORERS
from .weight_policy import WeightView


class OfWeights(Granularity):
    name = "weights"
    bank = WeightBank
    neighbours_share_age = False
    needs_whole_weights = True

    def numbers(self, model: nn.Module, table: ComponentTable) -> WeightTable:
        return weight_table(model)

    def everything(self, numbers: Numbering) -> WeightMask:
        return every_weight(numbers)

    def scorer(self, configured: str, pairs: bool) -> str:
        return SCORERS[0] if configured == "auto" else configured

    def view(self, bank: AnyBank, probe: Probe | None, **known: Any) -> WeightView:
        assert isinstance(bank, WeightBank)
        return WeightView(**known, bank=bank, probe=probe)
