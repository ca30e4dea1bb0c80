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
from .ablation import ABLATIONS, Substitutes, substitutes
from .goodness import METRICS, goodness
from .probes import Batch, Probe
from .scorer import Scorer
from .scorer_names import reads_pairs
from .taps import Site, embeddings, record, sites, sum_by_component

if TYPE_CHECKING:
    from ..model.components import ComponentTable


class Attribution(Scorer):
    """Mean over examples of the signed attribution, in units of the metric.

    Args:
        ablation: ``corrupted`` (from the contrast pair), ``zero`` or ``mean``.
        metric: ``logit_difference``, ``loss`` or ``kl``. The KL from the clean run has no gradient at the clean run, so
            ``kl`` takes the gradient at the corrupted run: the drop in KL if the component alone were restored.

    Raises:
        ConfigError: ``kl`` with an ablation other than ``corrupted``, whose gradient is zero everywhere.
    """

    name = "attribution"

    def __init__(self, ablation: str = "corrupted", metric: str = "logit_difference"):
        self.ablation = one_of("ablation", ablation, ABLATIONS)
        self.metric = one_of("metric", metric, METRICS)
        self.needs_pairs = reads_pairs(ablation, metric)
        self.divisible = ablation != "mean"  # the mean is taken over the whole probe
        if metric == "kl" and ablation != "corrupted":
            raise ConfigError(
                f"{self.name} with metric 'kl' and ablation {ablation!r} is zero for every component: the KL from the "
                "clean run has no gradient there. Use ablation 'corrupted', metric 'loss', or the scorer 'exact'"
            )

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
