"""Policies that need no forecast and no other run."""

from __future__ import annotations

import numpy as np

from ..masks import Mask, everything, select
from .base import Policy, View


class Full(Policy):
    """Everything, whatever the budget."""

    name = "full"

    def mask(self, view: View) -> Mask:
        return everything(view.table)


class Static(Policy):
    """The circuit of the first snapshot, for good: locate, then update."""

    name = "static"
    needs_scores = True

    def mask(self, view: View) -> Mask:
        return select(view.seen().values[:, 0], view.table, view.n_vectors)


class Random(Policy):
    """Components in random order under the same budget.

    Args:
        redraw: draw anew at every decision, from (seed, step); otherwise once, from the seed.
    """

    name = "random"

    def __init__(self, redraw: bool = False):
        self.redraw = self.remasks = redraw

    def mask(self, view: View) -> Mask:
        rng = np.random.default_rng([view.seed, view.step] if self.redraw else [view.seed])
        return select(rng.random(len(view.table)), view.table, view.n_vectors)


class Reactive(Policy):
    """The circuit of the last snapshot."""

    name = "reactive"
    needs_scores = True
    remasks = True

    def mask(self, view: View) -> Mask:
        return select(view.seen().values[:, -1], view.table, view.n_vectors)
