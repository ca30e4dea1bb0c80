"""Policies that repeat another run: its circuit in hindsight, or its masks."""

from __future__ import annotations

from ..errors import BudgetError
from ..masks import Mask, MaskSchedule, select
from ..series import Series
from .base import Policy, View, require_same_components


class Oracle(Policy):
    """The circuit at the end of a recorded full run of the same task: hindsight, not a method.

    Args:
        oracle_trajectory: its series, over the same components as the model in training.
    """

    name = "oracle"

    def __init__(self, oracle_trajectory: Series):
        self.series = oracle_trajectory

    def mask(self, view: View) -> Mask:
        require_same_components(self.series, view.table)
        return select(self.series.values[:, -1], view.table, view.n_vectors)


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
