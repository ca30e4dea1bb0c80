"""What stands in for a component's activation when it is taken out."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from .probes import Batch, Probe
from .taps import Site, record

ABLATIONS = ("corrupted", "zero", "mean")

Substitutes = Callable[[Batch], list[Tensor]]
"""Of a batch, the substitute by site: [B, T, features], or [features] where all positions share it."""


def substitutes(model: nn.Module, places: list[Site], probe: Probe, ablation: str) -> Substitutes:
    """Prepare an ablation.

    ``corrupted`` runs the corrupted prompts of the batch at hand; ``zero`` is zero; ``mean`` is the mean activation
    over all real positions of all (clean) examples of the probe, measured here in one pass.
    """
    if ablation == "corrupted":
        return lambda batch: _without_grad(model, places, batch, corrupted=True)
    if ablation == "mean":
        means = _means(model, places, probe)
        return lambda batch: means
    zeros = [torch.zeros(site.width, device=model.device) for site in places]
    return lambda batch: zeros


@torch.no_grad()
def _without_grad(model: nn.Module, places: list[Site], batch: Batch, corrupted: bool = False) -> list[Tensor]:
    return record(model, places, batch, corrupted).activations


def _means(model: nn.Module, places: list[Site], probe: Probe) -> list[Tensor]:
    totals = [torch.zeros((), device=model.device) for _ in places]
    for batch in (b.to(model.device) for b in probe.batches):
        real = batch.attention_mask.bool()
        activations = _without_grad(model, places, batch)
        totals = [t + a[real].float().sum(0) for t, a in zip(totals, activations, strict=True)]
    count = sum(int(batch.attention_mask.sum()) for batch in probe.batches)
    return [total / count for total in totals]
