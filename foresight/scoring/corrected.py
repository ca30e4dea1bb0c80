"""Correction: the components that two estimates disagree on most are patched exactly, a few at every snapshot.

Attribution reads a slope at the clean run. Where the response bends, as behind a saturated attention, it misses a
component altogether. Integrated gradients average the slope on the way from the corrupted run, so they find it, but err
by more on all others. So attribution stays the estimate, and the disagreement of the two says where to look. What the
estimate errs by differs little between pairs: it is measured on a few of them and added to the estimate from all,
which is the difference estimator of double sampling (Cochran, Sampling Techniques, 1977, chapter 12). The rule is this
project's own; `eval/scoring/missed.py` measures what it finds.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from ..model.placement import Placement
from .attribution import Attribution, IntegratedGradients
from .exact import AblationScorer, ablation_effects
from .probes import Probe
from .scorer import Scorer
from .scores import Scores

if TYPE_CHECKING:
    from ..model.components import ComponentTable

FIRST, LATER = 48, 16
"""Units that are patched at the first snapshot, which chooses a mask, and at every later one."""
PAIRS = 8
"""Pairs of the probe that units are patched on."""
OTHERS = 10
"""Further forward passes over those pairs, about: the two estimates take them."""
POINTS = 3
"""Points of the integrated gradients."""


class Patched(AblationScorer):
    """Effects of ablating groups of components, each group as one: samples are float64 [n_examples, n_groups].

    Args:
        groups: table positions of the components of each group.
    """

    name = "patched"

    def __init__(self, groups: Sequence[np.ndarray], metric: str = "logit_difference"):
        super().__init__("corrupted", metric)
        self.groups = [group.tolist() for group in groups]

    def _samples(self, model: nn.Module, table: ComponentTable, probe: Probe) -> np.ndarray:
        return ablation_effects(model, table, probe, self.groups, self.ablation, self.metric)


def correct(
    scorer: Scorer,
    model: nn.Module,
    table: ComponentTable,
    probe: Probe,
    scores: Scores,
    past: Iterable[Scores] = (),
    patches: int | None = None,
    placement: Placement | None = None,
) -> Scores:
    """Patch the units that are most in doubt: heads and KV groups one by one, the MLP of a layer as a whole.

    The doubt is d / sqrt(d + |estimate|), between an absolute and a relative difference. For a unit that was never
    patched, d is the mean over pairs of |estimate - other estimate|; for one that was, it is how far the estimate has
    moved since. So over the snapshots of a run every unit has its turn, and those that change have it again.

    The error of a whole MLP is shared out among its blocks in proportion to their |score|. Blocks of one sign are
    scaled by one factor; where signs differ, they still sum to the effect, and a block may change its sign.

    The cost is that of `patches` forward passes over `PAIRS` pairs and of `OTHERS` more. Every process must call this.

    Args:
        scorer: what has measured `scores`, of the attribution family, with ablation by corrupted activations.
        past: of all earlier snapshots, in order.
        patches: how many units may be patched now, at least 1; by default `FIRST` if none ever was, else `LATER`.

    Returns:
        The scores with `exact` and `exact_stderr` of the components patched now.

    Raises:
        DataError: the probe has no contrast pairs.
    """
    metric = getattr(scorer, "metric", "logit_difference")
    other = Attribution(metric=metric) if scorer.name == "attribution_ig" else IntegratedGradients(POINTS, metric)
    sized = np.abs if scorer.name == "attribution_abs" else np.asarray
    few = _few(probe)

    def samples(by: Scorer) -> np.ndarray:
        return sized(by.samples(model, table, few, placement))

    groups = units(table)
    here, there = (_summed(groups, samples(by)) for by in (scorer, other))
    estimates, before = _summed(groups, scores.values[None])[0], np.full(len(table), np.nan)
    for earlier in past:
        if earlier.exact is not None:
            before = np.where(np.isnan(earlier.exact), before, earlier.values)
    moved = np.abs(estimates - _summed(groups, before[None])[0])
    if patches is None:
        patches = FIRST if np.isnan(before).all() else LATER
    differs = np.where(np.isnan(moved), np.abs(here - there).mean(0), moved)
    doubt = differs / np.sqrt(np.maximum(differs + np.abs(estimates), np.finfo(np.float32).tiny))
    chosen = np.argsort(-doubt, kind="stable")[:patches]
    errors = samples(Patched([groups[u] for u in chosen], metric)) - here[:, chosen]
    exact, exact_stderr = np.full((2, len(table)), np.nan, np.float32)
    spread = errors.std(0, ddof=1) / np.sqrt(len(errors)) if len(errors) > 1 else np.full(len(chosen), np.nan)
    for u, off, uncertain in zip(chosen, errors.mean(0), spread, strict=True):
        members = groups[u]
        sizes = np.abs(scores.values[members].astype(np.float64))
        share = sizes / sizes.sum() if sizes.any() else np.full(len(members), 1 / len(members))
        exact[members] = scores.values[members] + share * off
        exact_stderr[members] = np.hypot(scores.stderr[members], share * uncertain)
    return replace(scores, exact=exact, exact_stderr=exact_stderr)


def error(scores: Scores) -> np.ndarray:
    """What has to be added to scores: exact minus value, float32 [n_components], 0 where nothing was patched."""
    return np.zeros_like(scores.values) if scores.exact is None else np.nan_to_num(scores.exact - scores.values)


def units(table: ComponentTable) -> list[np.ndarray]:
    """What is patched as one: table positions of every head, of every KV group, and of every layer's MLP."""
    single = [np.array([i]) for i in np.flatnonzero(table.kind != "mlp")]
    blocks = np.flatnonzero(table.kind == "mlp")
    return single + [blocks[table.layer[blocks] == layer] for layer in np.unique(table.layer[blocks])]


def _summed(groups: list[np.ndarray], samples: np.ndarray) -> np.ndarray:
    """Samples [m, n_components] summed over each group: float64 [m, n_groups]."""
    return np.stack([samples[:, group].sum(1, dtype=np.float64) for group in groups], 1)


def _few(probe: Probe) -> Probe:
    """`PAIRS` examples, evenly spaced over the probe, so that all lengths are among them; the same every time."""
    places = [(batch, row) for batch in range(len(probe.batches)) for row in range(len(probe.batches[batch]))]
    picked = np.unique(np.linspace(0, len(places) - 1, PAIRS).round().astype(int))
    rows: dict[int, list[int]] = {}
    for batch, row in (places[i] for i in picked):
        rows.setdefault(batch, []).append(row)
    return type(probe)(probe.batches[batch].rows(torch.tensor(found)) for batch, found in rows.items())
