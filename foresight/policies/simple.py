"""Policies that need neither a forecast nor another run's masks."""

from __future__ import annotations

import numpy as np

from ..masks.masks import Mask, everything
from .policy import Ground, Policy, View
from .prior import SHIPPED, LayerKindPrior, learned
from .targets import Target


class Full(Policy):
    """Everything that masks may take, whatever the budget."""

    name = "full"

    def mask(self, view: View) -> Mask:
        return everything(view.table)


class Ranked(Policy):
    """Base of policies that rank by the run's target at one snapshot of the run."""

    needs_scores = True
    ranks = True
    snapshot: int
    target: Target

    def prepare(self, ground: Ground) -> None:
        self.target = ground.target

    def mask(self, view: View) -> Mask:
        return view.select(self.target.at(self.target.parts(view.seen(), view.damage), self.snapshot))


class Static(Ranked):
    """The circuit of the first snapshot, for good: locate, then update."""

    name = "static"
    snapshot = 0


class Reactive(Ranked):
    """The circuit of the last snapshot."""

    name = "reactive"
    remasks = True
    snapshot = -1


class Random(Policy):
    """Components in random order under the same budget.

    Whole layers are drawn after LISA (Pan et al., arXiv 2403.17919), which trains a fixed number of middle layers
    between re-draws. Here the embeddings and the head, which LISA trains at all times, stay frozen, as do the norms,
    and the number of layers follows from the budget: what is left of it goes to components of the layer drawn next.

    A mask is drawn from the seed, or at every decision from (seed, step).
    """

    name = "random"
    ranks = True

    def __init__(self, redraw: bool = False, by: str = "component"):
        self.redraw = self.remasks = redraw
        self.by = by

    def mask(self, view: View) -> Mask:
        rng = np.random.default_rng([view.seed, view.step] if self.redraw else [view.seed])
        place: np.ndarray | int = 0
        if self.by == "layer":
            place = rng.permutation(int(view.table.layer.max()) + 1)[view.table.layer]
        return view.select(rng.random(len(view.table)) - place)


class Prior(Policy):
    """The layers and kinds that past runs found critical (see `LayerKindPrior`).

    Components of the same layer and kind tie; ties are broken by a permutation drawn from the seed, since table order
    would always take the lowest indexes.

    It learns from the run's history, of any model whose components have the same kinds; without any, the shipped
    prior, which was learned on two small models, is taken.
    """

    name = "prior"
    ranks = True

    def prepare(self, ground: Ground) -> None:
        known = learned(ground.history, ground.target) if ground.history else LayerKindPrior.read(SHIPPED)
        self.scores = known.scores

    def mask(self, view: View) -> Mask:
        scores = self.scores(view.table)
        order = np.lexsort((np.random.default_rng([view.seed]).permutation(len(scores)), -scores))
        return view.select(len(order) - np.argsort(order))  # the first has most
