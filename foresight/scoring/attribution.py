"""Attribution patching: what ablating each component would do, to first order, from one backward pass.

Sources: Nanda, "Attribution Patching" (2023); Syed et al., arXiv 2310.10348. Let a be the clean activation, s its
substitute (corrupted, zero or mean) and m the goodness of an example (see `goodness`). A component's score is the sum
over positions and over its features of (a - s) * dm/da at the clean run: the drop in m that ablating it would cause. A
positive score means that the component supports the behaviour. Because the taps feed linear maps, the sum over a
head's features equals (output difference) x (gradient at the output of the attention).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from ..common.errors import ConfigError, one_of
from .exact import AblationScorer, Substitutes, substitutes
from .goodness import METRICS, goodness
from .probes import Batch, Probe
from .scorer import Scorer
from .taps import Site, embeddings, record, sites, sum_by_component

if TYPE_CHECKING:
    from ..model.components import ComponentTable


class Attribution(AblationScorer):
    """Mean over examples of the signed attribution, in units of the metric.

    The KL from the clean run has no gradient at the clean run, so the metric ``kl`` takes the gradient at the corrupted
    run: the drop in KL if the component alone were restored.

    Raises:
        ConfigError: ``kl`` with an ablation other than ``corrupted``, whose gradient is zero everywhere.
    """

    name = "attribution"

    def __init__(self, ablation: str = "corrupted", metric: str = "logit_difference"):
        super().__init__(ablation, metric)
        if metric == "kl" and ablation != "corrupted":
            raise ConfigError(
                f"{self.name} with metric 'kl' and ablation {ablation!r} is zero for every component: the KL from the "
                "clean run has no gradient there. Use ablation 'corrupted', metric 'loss', or the scorer 'exact'"
            )

    def passes(self, n_components: int) -> tuple[float, float]:
        return 1.0 + (self.ablation != "zero"), 1.0

    def _samples(self, model: nn.Module, table: ComponentTable, probe: Probe) -> np.ndarray:
        """Attribution per example: float64 [n_examples, n_components], examples in batch order."""
        places = sites(table)
        substitutes_of = substitutes(model, places, probe, self.ablation)
        batches = (b.to(model.device) for b in probe.batches)
        rows = [self._of_batch(model, places, len(table), batch, substitutes_of) for batch in batches]
        return torch.cat(rows).double().numpy()

    def _of_batch(
        self, model: nn.Module, places: list[Site], n: int, batch: Batch, substitutes_of: Substitutes
    ) -> Tensor:
        """Attribution per example, float32 [B, n] on the CPU."""
        clean_logits: Tensor | None = None
        at_corrupted = self.metric == "kl"
        if at_corrupted:
            with torch.no_grad():
                clean = record(model, places, batch)
            others, clean_logits = clean.activations, clean.logits
        else:
            others = substitutes_of(batch)
        with torch.enable_grad(), embeddings(model):
            run = record(model, places, batch, corrupted=at_corrupted)
            total = goodness(self.metric, run.logits, batch, clean_logits).sum()
            gradients = torch.autograd.grad(total, run.activations)
        products = (
            (here.detach().float() - other.float()) * gradient.float()
            for here, other, gradient in zip(run.activations, others, gradients, strict=True)
        )
        result = sum_by_component(places, n, products).cpu()
        return -result if at_corrupted else result


class AbsoluteAttribution(Attribution):
    """Mean over examples of the absolute attribution: a component that helps in one and hurts in another counts."""

    name = "attribution_abs"

    def _samples(self, model: nn.Module, table: ComponentTable, probe: Probe) -> np.ndarray:
        return np.abs(super()._samples(model, table, probe))


class GradientActivation(Attribution):
    """Gradient x activation: attribution of the loss, which works with any probe.

    The score is the rise in loss, in nats and to first order, if the component's activation were set to zero or to its
    mean over the probe.

    Args:
        ablation: ``zero`` or ``mean``.
    """

    name = "gradient_activation"

    def __init__(self, ablation: str = "zero"):
        super().__init__(one_of("ablation", ablation, ("zero", "mean")), "loss")


class IntegratedGradients(Scorer):
    """Attribution with integrated gradients over the input embeddings, with the sign and units of `Attribution`.

    This is the EAP-IG inputs scheme (Hanna et al., arXiv 2403.17806) per component: the gradient of the metric is
    averaged along the straight line from the corrupted to the clean embeddings, and multiplied by the difference
    between the component's clean and corrupted activations. How to average is our own choice: the trapezoidal rule has
    the corrupted and the clean run as its end points, so the activations need no further pass, and on trained models,
    whose gradients turn sharply, it errs less than rules of higher order.

    All points of an example run in one forward pass, so a batch of the probe is split into parts whose points number
    about as many rows as the batch had: memory use is that of `Attribution`.

    Args:
        points: where on the line gradients are taken, at least 2 (the two ends).
        metric: ``logit_difference``, ``loss`` or ``kl`` (from the clean run).
    """

    name = "attribution_ig"
    needs_pairs = True
    per_example = True

    def __init__(self, points: int = 5, metric: str = "logit_difference"):
        if points < 2:
            raise ConfigError(f"{self.name}: points is {points}; expected at least 2, the corrupted and the clean end")
        self.points = points
        self.metric = one_of("metric", metric, METRICS)

    def passes(self, n_components: int) -> tuple[float, float]:
        return float(self.points), float(self.points)

    def _samples(self, model: nn.Module, table: ComponentTable, probe: Probe) -> np.ndarray:
        places, rows = sites(table), []
        for batch in (b.to(model.device) for b in probe.batches):
            size = max(1, len(batch) // self.points)
            for start in range(0, len(batch), size):
                part = batch.rows(slice(start, start + size))
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
