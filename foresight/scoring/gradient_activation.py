"""Gradient x activation: attribution for data without contrast pairs."""

from __future__ import annotations

from ..common.errors import one_of
from .attribution import Attribution
from .base import register


@register
class GradientActivation(Attribution):
    """Attribution of the loss to each component's own activation: the rise of the loss, in nats, to first order, if
    the activation were set to zero (or, with ``mean``, to its mean over the probe). Works with any probe.

    Args:
        ablation: ``zero`` or ``mean``.
    """

    name = "gradient_activation"

    def __init__(self, ablation: str = "zero"):
        super().__init__(one_of("ablation", ablation, ("zero", "mean")), "loss")
