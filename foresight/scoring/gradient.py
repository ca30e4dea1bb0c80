"""Gradient norm: how strongly the loss pulls at a component's weights."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from .base import register
from .weight_scorer import MinibatchScorer, WeightScorer


@register
class Gradient(WeightScorer):
    """L2 norm of the gradient of the probe's mean loss, of the component's weights (nats per unit of weight)."""

    name = "gradient"

    def _reduce(self, gradient: Tensor, weight: Tensor | None) -> Tensor:
        return gradient.square().sum(1)

    def _finish(self, by_component: np.ndarray) -> np.ndarray:
        return np.sqrt(by_component)


@register
class LocalGradient(MinibatchScorer):
    """The same of each minibatch's own gradient, averaged over minibatches: no gradients leave a process.

    An estimate of `gradient` from above: the noise of a minibatch is part of its norm.
    """

    name = "gradient_local"

    def _reduce(self, gradient: Tensor) -> Tensor:
        return gradient.square().sum(1)

    def _finish(self, by_component: np.ndarray) -> np.ndarray:
        return np.sqrt(by_component)
