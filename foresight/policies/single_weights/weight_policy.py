"""What policies over single weights have in common, and what they may know."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from ...bank.weights import WeightBank
from ...masks.masks import WeightMask
from ...scoring.probes import Probe
from ..policy import Policy, View


@dataclass(frozen=True, kw_only=True)
class WeightView(View):
    """What a policy over weights may know when it decides; `n_vectors` is the budget in weights.

    Attributes:
        bank: the run's, attached to the model.
        probe: what gradients are taken on; None if the policy needs none.
    """

    bank: WeightBank
    probe: Probe | None = None


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
