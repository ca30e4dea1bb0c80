"""Policies that repeat another run: its circuit in hindsight, or its masks."""

from __future__ import annotations

import numpy as np

from ..common.errors import BudgetError
from ..masks.masks import Mask, MaskSchedule
from ..trajectory.series import Series
from .base import Policy, View, require_same_components
from .targets import Target
from .targets.circuit import Circuit


class Oracle(Policy):
    """The circuit at the end of a recorded full run of the same task: hindsight, not a method.

    Args:
        oracle_trajectory: its series, over the same components as the model in training.
        target: by what it ranks, over the whole of that run where it is about a mean; by default the run's scores.
        oracle_damage: its damage, for a target that needs it.
    """

    name = "oracle"
    ranks = True

    def __init__(
        self, oracle_trajectory: Series, target: Target | None = None, oracle_damage: np.ndarray | None = None
    ):
        self.series = oracle_trajectory
        target = target or Circuit()
        self.scores = target.realised(target.parts(self.series, oracle_damage), 0, len(self.series.steps) - 1)

    def mask(self, view: View) -> Mask:
        require_same_components(self.series, view.table)
        return view.select(self.scores)


class OracleAhead(Policy):
    """Greedy hindsight: what a recorded full run of the same task found most critical until the next decision.

    At every decision, the components with the highest mean score over the recorded snapshots of the steps from
    `view.step` up to, not including, `view.step + view.horizon` (by default the next re-mask); the nearest snapshot
    where none was recorded in between. If the run was recorded with scorer `utility`, this is the *oracle by utility*:
    the components that, all being trained, had most to gain from the steps that the mask is for. Greedy, since no mask
    considers those after it, and hindsight of another run, since the recorded weights went their own way.

    Args:
        oracle_trajectory: its series, over the same components as the model in training.
    """

    name = "oracle_ahead"
    remasks = True
    ranks = True

    def __init__(self, oracle_trajectory: Series):
        self.series = oracle_trajectory

    def mask(self, view: View) -> Mask:
        require_same_components(self.series, view.table)
        steps, until = self.series.steps, view.step + view.horizon
        ahead = (steps >= view.step) & (steps < until)
        if not ahead.any():
            ahead[np.abs(2 * steps - view.step - until).argmin()] = True
        return view.select(self.series.values[:, ahead].mean(1, dtype=np.float64))


class Replay(Policy):
    """The masks of a saved schedule."""

    name = "replay"

    def __init__(self, mask_schedule: MaskSchedule):
        self.schedule = mask_schedule
        self.own_steps = frozenset(step for step, _ in mask_schedule.entries)
        self.remasks = len(mask_schedule.entries) > 1

    def mask(self, view: View) -> Mask:
        mask = self.schedule.at(view.step)
        size = int(view.table.vectors[list(mask.components)].sum())
        if size > view.n_vectors:
            raise BudgetError(
                f"mask schedule: its mask at step {view.step} has {size} vectors, the budget buys {view.n_vectors}; "
                f"raise the budget to {size * view.table.d_model / view.table.model_parameters:.4g}"
            )
        return mask
