"""Utility: what training a component is worth."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from ..common.errors import one_of
from .base import mean_and_stderr, register
from .weight_scorer import MinibatchScorer


@register
class Utility(MinibatchScorer):
    """First-order decrease of the loss, per unit of learning rate, if the component alone were trained for one pass
    over the probe's minibatches. The definition is this project's own.

    A step w -= lr * d lowers the loss by lr * g.d to first order. Under SGD d = g: the sum over minibatches of the
    squared gradient. Under Adam with settled moments d is about sign(g): the sum over minibatches of the L1 norm of the
    gradient. Gradients are taken at the weights in effect, not along the path. Every minibatch is a step of its own, so
    there is nothing to sum before the norm is taken.

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
