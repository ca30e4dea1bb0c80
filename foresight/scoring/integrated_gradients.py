"""Attribution with integrated gradients over the input embeddings.

This is the EAP-IG inputs scheme (Hanna et al., arXiv 2403.17806) per component: the gradient of the metric is averaged
along the straight line from the corrupted to the clean embeddings, and multiplied by the difference between the
component's clean and corrupted activations. How to average is our own choice: the trapezoidal rule has the corrupted
and the clean run as its end points, so the activations need no further pass, and on trained models, whose gradients
turn sharply, it errs less than rules of higher order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from ..common.errors import ConfigError, one_of
from .goodness import METRICS, goodness
from .probes import Batch, Probe
from .scorer import Scorer
from .taps import Site, embeddings, record, sites, sum_by_component

if TYPE_CHECKING:
    from ..model.components import ComponentTable


class IntegratedGradients(Scorer):
    """Mean over examples of the signed attribution, with the sign and units of `Attribution`.

    All points of an example run in one forward pass, so a batch of the probe is split into parts whose points number
    about as many rows as the batch had: memory use is that of `Attribution`.

    Args:
        points: where on the line gradients are taken, at least 2 (the two ends).
        metric: ``logit_difference``, ``loss`` or ``kl`` (from the clean run).
    """

    name = "attribution_ig"
    needs_pairs = True

    def __init__(self, points: int = 5, metric: str = "logit_difference"):
        if points < 2:
            raise ConfigError(f"{self.name}: points is {points}; expected at least 2, the corrupted and the clean end")
        self.points = points
        self.metric = one_of("metric", metric, METRICS)

    def _samples(self, model: nn.Module, table: ComponentTable, probe: Probe) -> np.ndarray:
        places, rows = sites(table), []
        for batch in (b.to(model.device) for b in probe.batches):
            size = max(1, len(batch) // self.points)
            for start in range(0, len(batch), size):
                part = batch.rows(start, start + size)
                rows.append(self._contributions(model, places, len(table), part).double().cpu().numpy())
        return np.concatenate(rows)

    def _contributions(self, model: nn.Module, places: list[Site], n: int, batch: Batch) -> Tensor:
        """Attribution per example, float32 [B, n]."""
        nodes = torch.linspace(0, 1, self.points, device=model.device)
        weights = torch.full_like(nodes, 1 / (self.points - 1))
        weights[[0, -1]] /= 2

        def on_the_line(embedded: Tensor) -> Tensor:
            line = embedded.float().unflatten(0, (self.points, len(batch)))
            line = line[0] + nodes[:, None, None, None] * (line[-1] - line[0])
            return line.flatten(0, 1).to(embedded.dtype)

        copies = batch.repeat(self.points)
        assert copies.corrupted_ids is not None
        copies.input_ids[: len(batch)] = copies.corrupted_ids[: len(batch)]
        with torch.enable_grad(), embeddings(model, on_the_line):
            run = record(model, places, copies)
            clean_logits = run.logits.detach()[-len(batch) :].repeat(self.points, 1, 1)
            total = goodness(self.metric, run.logits, copies, clean_logits).sum()
            gradients = torch.autograd.grad(total, run.activations)

        def product(activation: Tensor, gradient: Tensor) -> Tensor:
            activation = activation.detach().unflatten(0, (self.points, len(batch)))
            gradient = gradient.unflatten(0, (self.points, len(batch))).float()
            return (activation[-1].float() - activation[0].float()) * torch.einsum("p,p...->...", weights, gradient)

        return sum_by_component(places, n, map(product, run.activations, gradients))
