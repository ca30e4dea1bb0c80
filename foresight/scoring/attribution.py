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
from .exact import TOKENS_HELD, AblationScorer, Substitutes, substitutes
from .goodness import METRICS, goodness
from .probes import Batch, Probe
from .scorer import Scorer
from .taps import Site, activation_times_gradient, embeddings, hidden_of, record, sites, tallied

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

    def _divided(self, probe: Probe) -> Probe:
        """Corrupted activations of a whole part are held, which few tokens keep small."""
        if not self.needs_pairs or self.ablation == "mean":
            return probe
        return probe.divided(lambda batch: TOKENS_HELD // batch.input_ids.shape[1])

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
        clean: Tensor | None = None
        at_corrupted = self.metric == "kl"
        if at_corrupted:
            with torch.no_grad():
                run = record(model, places, batch)
            others, clean = run.activations, run.hidden
        elif self.ablation != "zero":
            others = substitutes_of(batch)

        def product(site: int, which: slice, activation: Tensor, gradient: Tensor) -> Tensor:
            other = others[site] if others[site].ndim == 1 else others[site][which, ..., : activation.shape[-1]]
            return (activation[0].float() - other.float()) * gradient[0].float()

        product = activation_times_gradient if self.ablation == "zero" else product
        with torch.enable_grad(), embeddings(model) as leaves, tallied(model, places, n, product) as tally:
            hidden = hidden_of(model, batch, corrupted=at_corrupted)
            torch.autograd.grad(goodness(self.metric, model, hidden, batch, clean).sum(), leaves)
        result = tally.take().cpu()
        return -result if at_corrupted else result


class AbsoluteAttribution(Attribution):
    """Mean over examples of the absolute attribution: a component that helps in one and hurts in another counts."""

    name = "attribution_abs"

    def _samples(self, model: nn.Module, table: ComponentTable, probe: Probe) -> np.ndarray:
        return np.abs(super()._samples(model, table, probe))


class GradientActivation(Attribution):
    """Gradient x activation: attribution of the loss, which works with any probe.

    The score is the rise in loss, in nats and to first order, if the component's activation were set to zero or to its
    mean over the probe. As the loss falls, so do these scores, until a few examples that the model still gets wrong
    drown all others. Relative ones keep their meaning: every example counts alike, whatever its loss.

    Args:
        ablation: ``zero`` or ``mean``.
        relative: divide the scores of an example by the sum of their magnitudes; they are then shares, in [-1, 1].
    """

    name = "gradient_activation"

    def __init__(self, ablation: str = "zero", relative: bool = False):
        super().__init__(one_of("ablation", ablation, ("zero", "mean")), "loss")
        self.relative = relative

    def _samples(self, model: nn.Module, table: ComponentTable, probe: Probe) -> np.ndarray:
        found = super()._samples(model, table, probe)
        return relative(found) if self.relative else found


class StepAttribution(GradientActivation):
    """Relative gradient x activation of the training steps' own passes, which have it nearly for free.

    It takes passes over a probe only before the first step, under torch.compile (hooks that come and go would compile
    every step anew), and where it is asked for samples directly.
    """

    name = "step_attribution"
    along = True

    def __init__(self) -> None:
        super().__init__(relative=True)


def relative(samples: np.ndarray) -> np.ndarray:
    """Samples [m, n] divided by the sum of magnitudes of each row; rows without any stay zero."""
    return samples / np.maximum(np.abs(samples).sum(1, keepdims=True), np.finfo(np.float32).tiny)


class IntegratedGradients(Scorer):
    """Attribution with integrated gradients over the input embeddings, with the sign and units of `Attribution`.

    This is the EAP-IG inputs scheme (Hanna et al., arXiv 2403.17806) per component: the gradient of the metric is
    averaged along the straight line from the corrupted to the clean embeddings, and multiplied by the difference
    between the component's clean and corrupted activations. How to average is our own choice: the trapezoidal rule has
    the corrupted and the clean run as its end points, so the activations need no further pass, and on trained models,
    whose gradients turn sharply, it errs less than rules of higher order.

    All points of an example run in one forward pass, so a batch of the probe is split into parts whose points number
    about as many rows as the batch had.

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

    def _divided(self, probe: Probe) -> Probe:
        return probe.divided(lambda batch: len(batch) // self.points)

    def _samples(self, model: nn.Module, table: ComponentTable, probe: Probe) -> np.ndarray:
        places, batches = sites(table), (b.to(model.device) for b in probe.batches)
        rows = [self._contributions(model, places, len(table), batch) for batch in batches]
        return torch.cat(rows).double().cpu().numpy()

    def _contributions(self, model: nn.Module, places: list[Site], n: int, batch: Batch) -> Tensor:
        """Attribution per example, float32 [B, n]."""
        nodes = torch.linspace(0, 1, self.points, device=model.device)
        weights = torch.full_like(nodes, 1 / (self.points - 1))
        weights[[0, -1]] /= 2

        def on_the_line(embedded: Tensor) -> Tensor:
            line = embedded.float().unflatten(0, (self.points, len(batch)))
            line = line[0] + nodes[:, None, None, None] * (line[-1] - line[0])
            return line.flatten(0, 1).to(embedded.dtype)

        def product(site: int, which: slice, activation: Tensor, gradient: Tensor) -> Tensor:
            average = torch.einsum("p,p...->...", weights, gradient.float())
            return (activation[-1].float() - activation[0].float()) * average

        copies = batch.repeat(self.points)
        assert copies.corrupted_ids is not None
        copies.input_ids[: len(batch)] = copies.corrupted_ids[: len(batch)]
        cut, tap = embeddings(model, on_the_line), tallied(model, places, n, product, self.points)
        with torch.enable_grad(), cut as leaves, tap as tally:
            hidden = hidden_of(model, copies)
            clean = hidden.detach().tensor_split(self.points)[-1].repeat(self.points, 1)
            torch.autograd.grad(goodness(self.metric, model, hidden, copies, clean).sum(), leaves)
        return tally.take()
