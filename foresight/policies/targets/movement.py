"""Target `movement`: how far a component's weights will have moved at the horizon."""

from .registry import register
from .target import Target


@register("movement")
class Movement(Target):
    """L2 distance of a component's weights at the horizon from where they were before training.

    Only what is trained moves. Within the budget, that shows where the weights go only if masks take turns or all
    components are trained for a while (watch: rotate, full-keep, full-rollback).
    """

    scorer = "movement"
    needs_training = True
