"""What replaces a component's activation when the component is ablated."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from .probes import Batch, Probe
from .taps import Site, record

ABLATIONS = ("corrupted", "zero", "mean")

Substitutes = Callable[[Batch], list[Tensor]]
"""Batch -> the substitute for each site: [B, T, features], or [features] if all positions share it."""


@torch.no_grad()
def substitutes(model: nn.Module, places: list[Site], probe: Probe, ablation: str) -> Substitutes:
    """Prepare an ablation.

    ``corrupted`` runs the corrupted prompts of the batch at hand; ``zero`` is zero; ``mean`` is the mean activation
    over all real positions of all clean examples of the probe, measured here in one pass.
    """
    if ablation == "corrupted":

        @torch.no_grad()
        def corrupted(batch: Batch) -> list[Tensor]:
            return record(model, places, batch, corrupted=True).activations

        return corrupted
    if ablation == "zero":
        zeros = [torch.zeros(site.width, device=model.device) for site in places]
        return lambda batch: zeros
    totals = [torch.zeros((), device=model.device) for _ in places]
    for batch in (b.to(model.device) for b in probe.batches):
        real = batch.attention_mask.bool()
        activations = record(model, places, batch).activations
        totals = [t + a[real].float().sum(0) for t, a in zip(totals, activations, strict=True)]
    count = sum(int(batch.attention_mask.sum()) for batch in probe.batches)
    means = [total / count for total in totals]
    return lambda batch: means
