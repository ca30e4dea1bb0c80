"""Gradients of the loss as scores: how strongly it pulls at a component's weights, or would miss them."""

from __future__ import annotations

import numpy as np
from torch import Tensor, nn

from .gradient_scorer import MinibatchScorer, WeightScorer
from .gradient_taps import WeightOf, Weights, stored_weight_of


class Gradient(WeightScorer):
    """L2 norm of the gradient of the probe's mean loss with respect to the component's weights (nats per unit)."""

    name = "gradient"

    def _reduce(self, gradient: Tensor, weight: Tensor | None) -> Tensor:
        return gradient.square().sum(1)

    def _finish(self, by_component: np.ndarray) -> np.ndarray:
        return np.sqrt(by_component)


class LocalGradient(MinibatchScorer):
    """L2 norm of each minibatch's own gradient, averaged over minibatches: no process sends gradients.

    It overestimates `gradient`, because the noise of a minibatch adds to its norm.
    """

    name = "gradient_local"

    def _reduce(self, gradient: Tensor) -> Tensor:
        return gradient.square().sum(1)

    def _finish(self, by_component: np.ndarray) -> np.ndarray:
        return np.sqrt(by_component)


class WeightGradient(WeightScorer):
    """Sum of |g * w| over the component's weights, g being the gradient of the probe's mean loss, in nats.

    It is the first-order change of the loss if weights were set to zero, without cancellation: the criterion of SNIP
    (Lee et al., arXiv 1810.02340), summed per component.

    Args:
        weights: opens the weights in effect; None reads the stored ones. A model with a bank needs the bank's.
    """

    name = "weight_gradient"

    def __init__(self, weights: Weights | None = None):
        self.weights = weights

    def _open(self, model: nn.Module) -> WeightOf:
        return self.weights() if self.weights else stored_weight_of(model)

    def _reduce(self, gradient: Tensor, weight: Tensor | None) -> Tensor:
        assert weight is not None
        return (gradient * weight).abs().sum(1)
