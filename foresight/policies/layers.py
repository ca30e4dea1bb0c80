"""Policy `layers`: whole layers, drawn at random."""

from __future__ import annotations

import numpy as np

from ..masks.masks import Mask
from ..masks.selection import select
from .base import Policy, View


class Layers(Policy):
    """Layers drawn at random, with all their components, anew at every decision from (seed, step).

    As many whole layers as fit. What is left of the budget goes to components of the layer drawn next, in random order
    (then of the one after it, where none of that fits), so that the budget is used up like that of every other mask; a
    budget below one layer is spent within a single one.

    After LISA (Pan et al., arXiv 2403.17919), which trains a fixed number of middle layers between re-draws. Here the
    embeddings and the head, which LISA trains at all times, stay frozen, as do the norms; the number of layers follows
    from the budget; and what becomes of Adam's moments at a re-draw is the run's setting (`moments`, `entry_moments`).
    """

    name = "layers"
    remasks = True

    def mask(self, view: View) -> Mask:
        rng = np.random.default_rng([view.seed, view.step])
        place = rng.permutation(int(view.table.layer.max()) + 1)
        return select(rng.random(len(view.table)) - place[view.table.layer], view.table, view.n_vectors)
