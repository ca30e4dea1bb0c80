"""Granularity `weights`: what a run over single weights has of its own, and what its policies share."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import nn

from ...bank import AnyBank
from ...bank.weights import WeightBank
from ...masks.masks import WeightMask, every_weight
from ...model.components import ComponentTable
from ...model.numbering import Numbering
from ...model.weight_table import WeightTable, weight_table
from ...scoring.probes import Probe
from ..granularity import Granularity
from ..policy import Policy, View

SCORERS = ("weight_gradient", "gradient")
"""Scores of a single weight, by the names that they have for components: |g * w| (the default), and |g|."""


@dataclass(frozen=True, kw_only=True)
class WeightView(View):
    """What a policy over weights may know when it decides; `n_vectors` is the budget in weights.

    Attributes:
        bank: the run's, attached to the model.
        probe: what gradients are taken on; None if the policy needs none.
    """

    bank: WeightBank
    probe: Probe | None = None


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


class WeightPolicy(Policy):
    """Base of policies over single weights.

    One that does not look anew keeps its first mask, and chooses again only where the budget changes over time.

    Attributes:
        needs_probe: the view must have a probe.
    """

    needs_probe: ClassVar[bool] = False

    def mask(self, view: View) -> WeightMask:
        """The weights to train from `view.step` on, as many as the budget has."""
        assert isinstance(view, WeightView)
        now = view.bank.mask
        return now if view.step > 0 and not self.remasks and len(now) == view.n_vectors else self._choose(view)

    @abstractmethod
    def _choose(self, view: WeightView) -> WeightMask: ...
