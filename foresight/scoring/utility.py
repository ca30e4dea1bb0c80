"""Utility: what training a component is worth."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from ..common.errors import one_of
from .gradient_scorer import MinibatchScorer
from .scorer import mean_and_stderr


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
