"""Gradient norm: how strongly the loss pulls at a component's weights."""

from __future__ import annotations

import numpy as np
from torch import nn

from .base import register
from .weights import Reduction, WeightScorer


@register
class Gradient(WeightScorer):
    """L2 norm of the loss gradient of the component's weights, averaged over minibatches (nats per unit of weight)."""

    name = "gradient"

    def _reduction(self, model: nn.Module) -> Reduction:
        return lambda target, gradient: gradient.square().sum(1)

    def _finish(self, by_component: np.ndarray) -> np.ndarray:
        return np.sqrt(by_component)
