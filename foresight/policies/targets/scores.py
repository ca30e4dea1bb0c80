"""Targets that rank by one score: that of the run's own scorer, the movement of the weights, or utility."""

from __future__ import annotations

from ...common.errors import one_of
from ...scoring.scorer import BENEFIT
from . import register
from .target import Target

PRECONDITIONERS = ("adam", "none", "moves")


@register("circuit")
class Circuit(Target):
    """The scores of the run's own scorer (attribution where there are contrast pairs) at the horizon."""


@register("movement")
class Movement(Target):
    """L2 distance of a component's weights at the horizon from where they were before training.

    Only what is trained moves. Within the budget, that shows where the weights go only if masks take turns or all
    components are trained for a while (watch: rotate, full-keep, full-rollback).
    """

    scorer = "movement"
    needs_training = True


@register("utility")
class Utility(Target):
    """Mean over the steps up to the horizon of the first-order decrease of the loss if a component is trained.

    Args:
        preconditioner: ``adam``: the L1 norm of each minibatch's gradient, summed (see `scoring.gradient`); ``none``:
            its square; ``moves``: -g . dw of the optimizer's first move from the whole probe's gradient (see
            `VirtualMoves`).
    """

    averaged = True

    def __init__(self, preconditioner: str = PRECONDITIONERS[0]):
        self.preconditioner = one_of("preconditioner", preconditioner, PRECONDITIONERS)
        if preconditioner == "moves":
            self.measures = (BENEFIT,)
        else:
            self.scorer = "utility"
            if preconditioner != "none":  # that is what the scorer does by itself
                self.scorer_params = {"preconditioner": preconditioner}
