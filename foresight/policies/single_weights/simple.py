"""Policies over single weights that rank all of them at once: at random, by gradient, or by another run's movement."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from ...bank.movement import movement
from ...common.errors import ConfigError, did_you_mean
from ...masks.masks import WeightMask
from ...masks.weight_selection import Scored, best_weights, gradients, random_places
from ...model.components import turned
from ..policy import Ground
from .weight_policy import SCORERS, WeightPolicy, WeightView

NUMBERED = 2**28
"""Weights up to which a random mask gives each a number, which takes seconds."""


class RandomWeights(WeightPolicy):
    """Weights drawn at random, each equally likely.

    They are drawn from the seed, or at every decision from (seed, step). Up to `NUMBERED` weights each get a random
    number, of 24 bits, and those of the highest are taken, so that seeds mean what they meant in earlier versions.
    From more, the mask's weights alone are drawn.
    """

    name = "random"

    def __init__(self, redraw: bool = False):
        self.redraw = self.remasks = redraw

    def _choose(self, view: WeightView) -> WeightMask:
        rng = np.random.default_rng([view.seed, view.step] if self.redraw else [view.seed])
        targets = view.bank.table.candidates
        total = sum(target.n for target in targets)
        if total > NUMBERED:
            places, ends = random_places(total, view.n_vectors, rng), np.cumsum([target.n for target in targets])
            shifts = np.array([target.offset for target in targets]) - ends + [target.n for target in targets]
            return WeightMask(places + shifts[np.searchsorted(ends, places, side="right")])
        drawn = ((target, torch.from_numpy(rng.random(target.n, dtype=np.float32))) for target in targets)
        return best_weights(drawn, view.n_vectors)


class StaticWeights(WeightPolicy):
    """Weights of highest |gradient x weight|, or |gradient|, over the probe before training, for good.

    The gradient is that of the mean loss over the whole probe, at the weights in effect. |g * w| is the criterion of
    SNIP (Lee et al., arXiv 1810.02340).
    """

    name = "static"
    needs_probe = True

    def prepare(self, ground: Ground) -> None:
        if ground.scorer not in SCORERS:
            raise ConfigError(
                f"scorer {ground.scorer!r} does not score single weights{did_you_mean(ground.scorer, SCORERS)}; with "
                f"granularity 'weights' use one of {', '.join(SCORERS)}, or granularity 'components'"
            )
        self.scorer = ground.scorer

    def _choose(self, view: WeightView) -> WeightMask:
        return best_weights(self._scores(view), view.n_vectors, view.bank.placement)

    def _scores(self, view: WeightView) -> Iterator[Scored]:
        bank = view.bank
        assert view.probe is not None
        read = bank.weights() if self.scorer == "weight_gradient" else None
        for target, gradient in gradients(bank.model, bank.table, view.probe, bank.placement):
            if read is not None:
                weight = read(target.module).to(gradient.device)
                gradient = gradient * turned(weight, bank.model.get_submodule(target.module))
            yield target, gradient.abs()


class ReactiveWeights(StaticWeights):
    """The same, scored anew at every decision."""

    name = "reactive"
    remasks = True


class Movement(WeightPolicy):
    """Weights that have moved farthest in another run: hindsight, if that is a full run of the same task.

    Weights that the other run has not moved are taken last, lowest ids first.
    """

    name = "movement"

    def __init__(self, movement_from: str):
        self.path = movement_from

    def prepare(self, ground: Ground) -> None:
        self.moved = movement(self.path, ground.model)

    def _choose(self, view: WeightView) -> WeightMask:
        return best_weights(((target, self.moved(target)) for target in view.bank.table.candidates), view.n_vectors)
