"""Gradients of the loss as scores: how strongly it pulls at a component's weights, and what training them is worth."""

from __future__ import annotations

import numpy as np
from torch import Tensor, nn

from ..common.errors import one_of
from .gradient_scorer import MinibatchScorer, WeightScorer
from .gradient_taps import WeightOf, Weights, stored_weight_of
from .scorer import mean_and_stderr


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


class Utility(MinibatchScorer):
    """First-order decrease of the loss, per unit of learning rate, from training the component alone for one pass.

    The pass goes over the probe's minibatches. A step w -= lr * d lowers the loss by lr * g.d to first order. Under
    SGD, d = g, so the score is the sum over minibatches of the squared gradient. Under Adam with settled moments, d is
    about sign(g), so it is the sum of the L1 norms. Gradients are taken at the weights in effect, not along the path.
    The definition is this project's own.

    Args:
        preconditioner: ``none`` (SGD) or ``adam``.
    """

    name = "utility"

    def __init__(self, preconditioner: str = "none"):
        self.preconditioner = one_of("preconditioner", preconditioner, ("none", "adam"))

    def _reduce(self, gradient: Tensor) -> Tensor:
        return (gradient.abs() if self.preconditioner == "adam" else gradient.square()).sum(1)

    def _combine(self, samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        mean, stderr = mean_and_stderr(samples)
        return len(samples) * mean, len(samples) * stderr
