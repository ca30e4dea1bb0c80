"""|gradient x weight|: the first-order change of the loss if weights were set to zero, without cancellation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from .base import register
from .weights import Reduction, WeightOf, WeightScorer, stored_weight_of, vectors_first

if TYPE_CHECKING:
    from ..components import Target


@register
class WeightGradient(WeightScorer):
    """Sum of |g * w| over the component's weights, averaged over minibatches, in nats.

    The criterion of SNIP (Lee et al., arXiv 1810.02340), summed per component.

    Args:
        weight_of: reads the weight in effect, as [output features, input features]; by default the stored weight.
            A model with a bank needs the bank's.
    """

    name = "weight_gradient"

    def __init__(self, weight_of: WeightOf | None = None):
        self.weight_of = weight_of

    def _reduction(self, model: nn.Module) -> Reduction:
        weight_of = self.weight_of or stored_weight_of(model)

        def reduce(target: Target, gradient: Tensor) -> Tensor:
            weight = vectors_first(weight_of(target.module), target).to(gradient.device)
            return (gradient * weight).abs().sum(1)

        return reduce
