"""Exact activation patching: run the model with a component's activation replaced, and measure the effect."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from ..common.errors import one_of
from .goodness import METRICS, goodness
from .probes import Batch, Probe
from .scorer import Scorer
from .taps import Site, hidden_of, record, sites, tapped

if TYPE_CHECKING:
    from ..model.components import ComponentTable

ABLATIONS = ("corrupted", "zero", "mean")
TOKENS_PER_RUN = 8192
"""Patched copies of a batch share a forward pass up to this many tokens."""
TOKENS_HELD = 2048
"""Tokens, at least those of one example, whose substitutes are held at a time: about 1.2 MiB each at 8B."""

Substitutes = Callable[[Batch], list[Tensor]]
"""Batch -> the substitute for each site: [B, T, features], or [features] if all positions share it."""


class AblationScorer(Scorer):
    """Base of scorers of an ablation's effect on a metric.

    Args:
        ablation: ``corrupted`` (the activation on the corrupted prompt), ``zero`` or ``mean``.
        metric: ``logit_difference``, ``loss`` or ``kl`` (from the clean run).
    """

    per_example = True

    def __init__(self, ablation: str = "corrupted", metric: str = "logit_difference"):
        self.ablation = one_of("ablation", ablation, ABLATIONS)
        self.metric = one_of("metric", metric, METRICS)
        self.needs_pairs = ablation == "corrupted" or metric == "logit_difference"  # which reads wrong answers
        self.divisible = ablation != "mean"  # a mean over the whole probe


class Exact(AblationScorer):
    """How far the metric drops when one component is ablated: mean over examples, in units of the metric.

    Needs one forward pass per component. It is the reference for all other scorers of activations.
    """

    name = "exact"

    def passes(self, n_components: int) -> tuple[float, float]:
        return 1.0 + n_components + (self.ablation != "zero"), 0.0

    def _samples(self, model: nn.Module, table: ComponentTable, probe: Probe) -> np.ndarray:
        single = [[i] for i in range(len(table))]
        return ablation_effects(model, table, probe, single, self.ablation, self.metric)


@torch.no_grad()
def substitutes(model: nn.Module, places: list[Site], probe: Probe, ablation: str) -> Substitutes:
    """Prepare an ablation.

    ``corrupted`` runs the corrupted prompts of the batch at hand; ``zero`` is zero; ``mean`` is the mean activation
    over all real positions of all clean examples of the probe, measured here in one pass.
    """
    if ablation == "corrupted":
        return torch.no_grad()(lambda batch: record(model, places, batch, corrupted=True).activations)
    if ablation == "zero":
        zeros = [torch.zeros(site.width, device=model.device) for site in places]
        return lambda batch: zeros
    totals: dict[int, Tensor] = {}
    for batch in (b.to(model.device) for b in probe.batches):
        real = batch.attention_mask.bool()

        def add(i: int, activation: Tensor, real: Tensor = real) -> None:
            totals[i] = totals.get(i, 0) + activation[real].float().sum(0)

        with tapped(model, places, add):
            hidden_of(model, batch)
    count = sum(int(batch.attention_mask.sum()) for batch in probe.batches)
    means = [totals[i] / count for i in range(len(places))]
    return lambda batch: means


@torch.no_grad()
def ablation_effects(
    model: nn.Module,
    table: ComponentTable,
    probe: Probe,
    groups: Sequence[Sequence[int]],
    ablation: str = "corrupted",
    metric: str = "logit_difference",
) -> np.ndarray:
    """How far the metric drops when all components of a group are ablated together.

    Put the model in `scoring_mode` first.

    Args:
        groups: table positions of the components of each group.

    Returns:
        float64 [n_examples, n_groups], examples in the order of the batches.
    """
    places = sites(table)
    at = {(site.module, site.side): i for i, site in enumerate(places)}
    # for each group, (site index, first feature, last feature + 1) of every slice to replace
    spans = [
        [(at[tap.module, tap.side], tap.start, tap.stop) for c in group for tap in table.components[c].taps]
        for group in groups
    ]
    substitutes_of = substitutes(model, places, probe, ablation)
    rows = []
    if ablation == "corrupted":  # whose activations are held
        probe = probe.divided(lambda batch: TOKENS_HELD // batch.input_ids.shape[1])
    for batch in (b.to(model.device) for b in probe.batches):
        substituted = substitutes_of(batch)
        hidden = hidden_of(model, batch)
        clean = goodness(metric, model, hidden, batch, hidden)
        at_once = max(1, TOKENS_PER_RUN // batch.input_ids.numel())
        drops = []
        for start in range(0, len(spans), at_once):
            part = spans[start : start + at_once]
            copies = batch.repeat(len(part))
            patched = _patched(model, places, copies, part, substituted)
            after = goodness(metric, model, patched, copies, hidden.repeat(len(part), 1))
            drops.append(clean - after.view(len(part), len(batch)))
        rows.append(torch.cat(drops).T.double().cpu().numpy())
    return np.concatenate(rows)


def _patched(
    model: nn.Module,
    places: list,
    copies: Batch,
    spans: list[list[tuple[int, int, int]]],
    substituted: list[Tensor],
) -> Tensor:
    """Hidden states (`hidden_of`) of len(spans) copies of a batch; in copy i the slices spans[i] are replaced."""
    by_site: dict[int, list[tuple[int, int, int]]] = {}
    for copy, group in enumerate(spans):
        for site, start, stop in group:
            by_site.setdefault(site, []).append((copy, start, stop))
    touched = sorted(by_site)

    def patch(k: int, activation: Tensor) -> Tensor:
        site = touched[k]
        activation = activation.clone()
        view = activation.unflatten(0, (len(spans), -1))
        for copy, start, stop in by_site[site]:
            view[copy, ..., start:stop] = substituted[site][..., start:stop].to(activation.dtype)
        return activation

    with tapped(model, [places[i] for i in touched], patch):
        return hidden_of(model, copies)
