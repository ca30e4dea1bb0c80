"""Target `utility`: what training a component will be worth over the next steps."""

from __future__ import annotations

from ...common.errors import one_of
from ...scoring.scorer import BENEFIT
from .registry import register
from .target import Target

PRECONDITIONERS = ("adam", "none", "moves")


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
