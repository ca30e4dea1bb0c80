"""What the granularity of a run decides: its tables, its bank, its scorers, and what its policies see."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from torch import nn

from ..bank import AnyBank, Bank, WeightBank
from ..common.errors import ConfigError, one_of
from ..masks.masks import Mask, WeightMask, every_weight, everything
from ..model.components import ComponentTable
from ..model.granularity import table_of
from ..model.numbering import Numbering
from ..model.placement import Placement
from ..model.weight_table import WeightTable, weight_table
from ..scoring import SCORERS
from ..scoring.probes import Probe
from .policy import View
from .single_weights.simple import SCORERS as OF_WEIGHTS
from .single_weights.weight_policy import WeightView

WITH_PAIRS, WITHOUT_PAIRS = "attribution", "gradient_activation"
OF_VECTORS = ("gradient", "utility", "movement", "weight_gradient")


class Granularity(ABC):
    """Base of the three granularities.

    Attributes:
        name: what settings call it.
        bank_class: builds the bank.
        neighbours_share_age: whether vectors next to each other in the bank mostly enter together.
        needs_whole_weights: whether a Linear cannot compute from a shard of its weight.
    """

    name: str
    bank_class: type[AnyBank]
    neighbours_share_age = True
    needs_whole_weights = False

    def table(self, model: nn.Module, mlp_block: int | None) -> ComponentTable:
        """What scores, trajectories and reports of a run are about (see `table_of`)."""
        return table_of(model, self.name, mlp_block)

    @abstractmethod
    def numbers(self, model: nn.Module, table: ComponentTable) -> Numbering:
        """What the run's bank can hold."""

    def bank(self, model: nn.Module, numbers: Numbering, n_vectors: int, placement: Placement) -> AnyBank:
        """The bank of so many vectors (or weights), attached to the model."""
        return self.bank_class(model, numbers, n_vectors, placement)

    @abstractmethod
    def everything(self, numbers: Numbering) -> Mask | WeightMask:
        """The mask of all there is."""

    @abstractmethod
    def scorer(self, configured: str, pairs: bool) -> str:
        """The scorer that is configured, or for "auto" the one that fits; `pairs`: there are contrast pairs.

        Raises:
            UnknownNameError: no scorer of that name.
            ConfigError: one that cannot score what masks are made of.
        """

    def view(self, bank: AnyBank, probe: Probe | None, **known: Any) -> View:
        """What a policy may know; `known` are the fields of a `View`."""
        return View(**known)


class OfComponents(Granularity):
    name = "components"
    bank_class = Bank

    def numbers(self, model: nn.Module, table: ComponentTable) -> Numbering:
        return table

    def everything(self, numbers: Numbering) -> Mask:
        assert isinstance(numbers, ComponentTable)
        return everything(numbers)

    def scorer(self, configured: str, pairs: bool) -> str:
        if configured == "auto":
            return WITH_PAIRS if pairs else WITHOUT_PAIRS
        return one_of("scorer", configured, SCORERS)


class OfVectors(OfComponents):
    name = "vectors"

    def scorer(self, configured: str, pairs: bool) -> str:
        name = OF_VECTORS[0] if configured == "auto" else one_of("scorer", configured, SCORERS)
        if name not in OF_VECTORS:
            raise ConfigError(
                f"scorer {name!r} reads activations, which a single row or column does not have; with granularity "
                f"'vectors' use one of {', '.join(OF_VECTORS)}"
            )
        return name


class OfWeights(Granularity):
    name = "weights"
    bank_class = WeightBank
    neighbours_share_age = False
    needs_whole_weights = True

    def numbers(self, model: nn.Module, table: ComponentTable) -> WeightTable:
        return weight_table(model)

    def everything(self, numbers: Numbering) -> WeightMask:
        return every_weight(numbers)

    def scorer(self, configured: str, pairs: bool) -> str:
        return OF_WEIGHTS[0] if configured == "auto" else configured

    def view(self, bank: AnyBank, probe: Probe | None, **known: Any) -> WeightView:
        assert isinstance(bank, WeightBank)
        return WeightView(**known, bank=bank, probe=probe)


_GRANULARITIES: dict[str, type[Granularity]] = {one.name: one for one in (OfComponents, OfVectors, OfWeights)}


def granularity(name: str) -> Granularity:
    """The granularity that settings call `name`."""
    return _GRANULARITIES[name]()
