"""Policies over single weights: which weights are trained next, under the budget. All of them rank all weights at once.

A policy that does not look anew keeps its first mask; only where the budget changes in time does it choose once more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...common.errors import BudgetError, ConfigError, did_you_mean
from ...masks.masks import WeightMask
from ...masks.weight_schedule import WeightSchedule, read_mask
from ...masks.weight_selection import Scored, best_weights, gradients
from ...model.components import stored_transposed
from ...model.numbering import Target
from ..base import build
from ..registry import POLICIES
from .weight_base import WeightPolicy, WeightView
from .weight_foresight import WeightForesight

SCORERS = ("weight_gradient", "gradient")
"""Scores of a single weight, by the names that they have for components: |g * w| (the default), and |g|."""

Moved = Callable[[Target], Tensor | None]
"""Of a target of a `WeightTable`: how far each weight has moved, float32 in the shape of its stored weight, or None if
none of them has."""


class RandomWeights(WeightPolicy):
    """Weights drawn at random, each equally likely; the order of equal random numbers (of 24 bits) is that of ids.

    Args:
        redraw: draw anew at every decision, from (seed, step); otherwise once, from the seed.
    """

    name = "random"

    def __init__(self, redraw: bool = False):
        self.redraw = self.remasks = redraw

    def _choose(self, view: WeightView) -> WeightMask:
        rng = np.random.default_rng([view.seed, view.step] if self.redraw else [view.seed])
        targets = view.bank.table.targets
        drawn = ((target, torch.from_numpy(rng.random(target.n, dtype=np.float32))) for target in targets)
        return best_weights(drawn, view.n_vectors)


class StaticWeights(WeightPolicy):
    """Weights of highest |gradient x weight|, or |gradient|, over the probe before training, for good.

    The gradient is that of the mean loss over the whole probe, at the weights in effect. |g * w| is the criterion of
    SNIP (Lee et al., arXiv 1810.02340).

    Args:
        scorer: one of SCORERS.
    """

    name = "static"
    needs_probe = True

    def __init__(self, scorer: str = SCORERS[0]):
        if scorer not in SCORERS:
            raise ConfigError(
                f"scorer {scorer!r} does not score single weights{did_you_mean(scorer, SCORERS)}; with granularity "
                f"'weights' use one of {', '.join(SCORERS)}, or granularity 'components'"
            )
        self.scorer = scorer

    def _choose(self, view: WeightView) -> WeightMask:
        place = view.bank.placement
        return best_weights(self._scores(view), view.n_vectors, place)

    def _scores(self, view: WeightView) -> Iterator[Scored]:
        bank = view.bank
        assert view.probe is not None
        read = bank.weights() if self.scorer == "weight_gradient" else None
        for target, gradient in gradients(bank.model, bank.table, view.probe, bank.placement):
            if read is not None:
                weight = read(target.module).to(gradient.device)
                transposed = stored_transposed(bank.model.get_submodule(target.module))
                gradient = gradient * (weight.T if transposed else weight)
            yield target, gradient.abs()


class ReactiveWeights(StaticWeights):
    """The same, scored anew at every decision."""

    name = "reactive"
    remasks = True


class Movement(WeightPolicy):
    """Weights that have moved farthest in another run: hindsight, if that is a full run of the same task.

    Args:
        moved: how far. Weights that it says nothing of have not moved and are taken last, lowest ids first.
    """

    name = "movement"

    def __init__(self, moved: Moved):
        self.moved = moved

    def _choose(self, view: WeightView) -> WeightMask:
        return best_weights(self._scores(view), view.n_vectors)

    def _scores(self, view: WeightView) -> Iterator[Scored]:
        for target in view.bank.table.targets:
            moved = self.moved(target)
            yield target, torch.zeros(target.n) if moved is None else moved.abs()


class ReplayWeights(WeightPolicy):
    """The masks of a saved schedule.

    Args:
        schedule: it; folder: where its file lies.
    """

    name = "replay"

    def __init__(self, schedule: WeightSchedule, folder: str | Path):
        self.schedule, self.folder = schedule, folder
        self.own_steps = frozenset(step for step, *_ in schedule.entries)
        self.remasks = len(schedule.entries) > 1

    def _choose(self, view: WeightView) -> WeightMask:
        mask = read_mask(self.folder, self.schedule.at(view.step), view.bank.table)
        if len(mask) > view.n_vectors:
            raise BudgetError(
                f"mask schedule: its mask at step {view.step} has {len(mask)} weights, the budget buys "
                f"{view.n_vectors}; raise the budget to {len(mask) / view.bank.table.model_parameters:.4g}"
            )
        return mask


_POLICIES: dict[str, type[WeightPolicy]] = {
    cls.name: cls for cls in (RandomWeights, StaticWeights, ReactiveWeights, WeightForesight, Movement, ReplayWeights)
}
WEIGHT_POLICIES = tuple(_POLICIES)


def weight_policy_class(name: str) -> type[WeightPolicy]:
    """The policy over weights of that name.

    Raises:
        ConfigError: there is none, though there may be one over components.
    """
    if name not in _POLICIES:
        if name in POLICIES:
            remedy = "use granularity 'components' or 'vectors' with it, or"
        else:
            remedy = f"expected{did_you_mean(name, WEIGHT_POLICIES)}"
        raise ConfigError(
            f"policy {name!r} does not choose single weights; {remedy} one of {', '.join(WEIGHT_POLICIES)}"
        )
    return _POLICIES[name]


def make_weight_policy(name: str, **needs: Any) -> WeightPolicy:
    """Build a policy over weights from what its `__init__` takes of `needs`; None counts as absent.

    Raises:
        ConfigError: unknown name, or something that the policy needs is absent.
    """
    cls = weight_policy_class(name)
    return build(cls, needs, lambda param: f"policy {name!r} over weights needs {NEEDS[param]}")


NEEDS = {
    "shapes": "the model's matrices, which a ForesightTrainer knows",
    "moved": "movement_from: the output folder, or delta, of a run of this model, such as one with policy 'full'",
    "schedule": "mask_schedule: the schedule.json of a run with granularity 'weights', its folder 'masks' beside it",
    "folder": "the folder of that schedule",
}
"""What policies over weights can be given, in the words of an error message."""
