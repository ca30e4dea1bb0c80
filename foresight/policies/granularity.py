"""What the granularity of a run decides: its tables, its bank, its scorers, and what its policies see."""

from __future__ import annotations

from abc import ABC, abstractmethod
from importlib import import_module
from typing import Any

from torch import nn

from ..bank import AnyBank, Bank
from ..common.errors import one_of
from ..masks.masks import Mask, WeightMask, everything
from ..model.components import ComponentTable, component_table
from ..model.numbering import Numbering
from ..model.placement import Placement
from ..scoring import SCORERS
from ..scoring.probes import Probe
from .policy import View

WITH_PAIRS, WITHOUT_PAIRS = "attribution", "gradient_activation"


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
        """What scores, trajectories and reports of a run are about: components, unless a subclass has finer ones."""
        return component_table(model, mlp_block)

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


_HOMES = {
    "components": ".granularity:OfComponents",
    "vectors": ".vectors:OfVectors",
    "weights": ".single_weights.granularity:OfWeights",
}


def granularity(name: str) -> Granularity:
    """The granularity that settings call `name`; only its module is imported."""
    module, _, cls = _HOMES[name].partition(":")
    return getattr(import_module(module, __package__), cls)()
