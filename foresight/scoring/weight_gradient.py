"""|gradient x weight|: the first-order change of the loss if weights were set to zero, without cancellation."""

from __future__ import annotations

from torch import Tensor, nn

from .base import register
from .weight_scorer import WeightScorer
from .weights import WeightOf, Weights, stored_weight_of


@register
class WeightGradient(WeightScorer):
    """Sum of |g * w| over the component's weights, g the gradient of the probe's mean loss, in nats.

    The criterion of SNIP (Lee et al., arXiv 1810.02340), summed per component.

    Args:
        weights: opens the weights in effect; by default the stored ones. A model with a bank needs the bank's.
    """

    name = "weight_gradient"

    def __init__(self, weights: Weights | None = None):
        self.weights = weights

    def _open(self, model: nn.Module) -> WeightOf:
        return self.weights() if self.weights else stored_weight_of(model)

    def _reduce(self, gradient: Tensor, weight: Tensor | None) -> Tensor:
        assert weight is not None
        return (gradient * weight).abs().sum(1)
