"""What the granularity of a run decides: its tables, its bank, its scorers, and what its policies see."""

from __future__ import annotations

from typing import Any

from torch import nn

from ..bank import AnyBank, Bank
from ..common.errors import one_of
from ..common.plugins import part
from ..masks.masks import Mask, WeightMask, everything
from ..model.components import ComponentTable, component_table
from ..model.numbering import Numbering
from ..scoring import SCORERS
from ..scoring.probes import Probe
from .policy import View

WITH_PAIRS, WITHOUT_PAIRS = "attribution", "step_attribution"


class Granularity:
    """The granularity `components`, and the base of the others.

    Attributes:
        name: what settings call it.
        bank: class of the bank.
        neighbours_share_age: whether vectors next to each other in the bank mostly enter together.
        needs_whole_weights: whether a Linear cannot compute from a shard of its weight.
    """

    name = "components"
    bank: type[AnyBank] = Bank
    neighbours_share_age = True
    needs_whole_weights = False

    def table(self, model: nn.Module, mlp_block: int | None) -> ComponentTable:
        """What scores, trajectories and reports of a run are about."""
        return component_table(model, mlp_block)

    def numbers(self, model: nn.Module, table: ComponentTable) -> Numbering:
        """What the run's bank can hold."""
        return table

    def tables(
        self, model: nn.Module, mlp_block: int | None, candidates: dict[str, Any] | None
    ) -> tuple[ComponentTable, Numbering]:
        """Both, and masks may take only the candidates. Raises ConfigError as `masks.candidates.restrict`."""
        table = self.table(model, mlp_block)
        numbers = self.numbers(model, table)
        if candidates:
            part("masks.candidates.restrict")(numbers, candidates)
        return table, numbers

    def everything(self, numbers: Numbering) -> Mask | WeightMask:
        """The mask of all that masks may take."""
        assert isinstance(numbers, ComponentTable)
        return everything(numbers)

    def scorer(self, configured: str, pairs: bool) -> str:
        """The scorer that is configured, or for "auto" the one that fits; `pairs`: there are contrast pairs.

        Raises:
            UnknownNameError: no scorer of that name.
            ConfigError: one that cannot score what masks are made of.
        """
        if configured == "auto":
            return WITH_PAIRS if pairs else WITHOUT_PAIRS
        return one_of("scorer", configured, SCORERS)

    def view(self, bank: AnyBank, probe: Probe | None, **known: Any) -> View:
        """What a policy may know; `known` are the fields of a `View`."""
        return View(**known)


_HOMES = {
    "components": "policies.granularity.Granularity",
    "vectors": "policies.vectors.OfVectors",
    "rows": "policies.vectors.OfRows",
    "weights": "policies.single_weights.weight_policy.OfWeights",
}


def granularity(name: str) -> Granularity:
    """The granularity that settings call `name`; only its module is imported."""
    return part(_HOMES[name])()
