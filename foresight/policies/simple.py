"""Policies that need no forecast and no other run."""

from __future__ import annotations

import numpy as np

from ..masks.masks import Mask, everything
from .base import Policy, View
from .targets import Target
from .targets.circuit import Circuit


class Full(Policy):
    """Everything, whatever the budget."""

    name = "full"

    def mask(self, view: View) -> Mask:
        return everything(view.table)


class Static(Policy):
    """The circuit of the first snapshot, for good: locate, then update.

    Args:
        target: by what it ranks; by default the run's scores.
    """

    name = "static"
    needs_scores = True
    ranks = True

    def __init__(self, target: Target | None = None):
        self.target = target or Circuit()

    def mask(self, view: View) -> Mask:
        return view.select(self.target.at(self.target.parts(view.seen(), view.damage), 0))


class Random(Policy):
    """Components in random order under the same budget.

    Args:
        redraw: draw anew at every decision, from (seed, step); otherwise once, from the seed.
    """

    name = "random"
    ranks = True

    def __init__(self, redraw: bool = False):
        self.redraw = self.remasks = redraw

    def mask(self, view: View) -> Mask:
        rng = np.random.default_rng([view.seed, view.step] if self.redraw else [view.seed])
        return view.select(rng.random(len(view.table)))


class Reactive(Policy):
    """The circuit of the last snapshot.

    Args:
        target: by what it ranks; by default the run's scores.
    """

    name = "reactive"
    needs_scores = True
    remasks = True
    ranks = True

    def __init__(self, target: Target | None = None):
        self.target = target or Circuit()

    def mask(self, view: View) -> Mask:
        return view.select(self.target.at(self.target.parts(view.seen(), view.damage), -1))


class Ema(Policy):
    """The circuit of an exponential moving average of all snapshots so far, whatever their scorer.

    Each snapshot is divided by its sum first, or those of early steps, when gradients are large, would outweigh all
    later ones; weights are ema_decay to the power of a snapshot's age in snapshots, normalised to 1 (no bias towards
    the first). A run takes one snapshot a decision unless it records more.

    Evolving Parameter Isolation (Lin et al., arXiv 2604.14010) re-masks by a moving average of gradient magnitudes,
    normalised by layer, at fixed intervals; with scorer `gradient` this does so too. But EPI *freezes* the weights that
    it finds important, to protect what was learned, while here, as with every mask, they are what is trained; and
    scores are not normalised by layer, since components of all layers compete for one budget.

    Args:
        ema_decay: in [0, 1); with 0 it is `Reactive`, and towards 1 the mean of all snapshots.
    """

    name = "ema"
    needs_scores = True
    remasks = True
    ranks = True

    def __init__(self, ema_decay: float = 0.9):
        self.decay = ema_decay

    def mask(self, view: View) -> Mask:
        values = view.seen().values.astype(np.float64)
        totals = values.sum(0)
        weights = self.decay ** np.arange(values.shape[1])[::-1] / np.where(totals > 0, totals, 1)
        return view.select(values @ weights)
