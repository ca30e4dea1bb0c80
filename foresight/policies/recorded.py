"""Recorded runs, and policies that repeat one: its circuit in hindsight, or its masks."""

from __future__ import annotations

import numpy as np

from ..common.errors import BudgetError, ConfigError
from ..masks.masks import Mask, WeightMask
from ..masks.schedule import MaskSchedule
from ..scoring.scorer import DAMAGE
from ..trajectory.trajectory import Trajectory
from .policy import Ground, Past, Policy, View, require_same_components
from .targets import Target


def read_past(path: str, scorer: str, target: Target) -> Past:
    """A recorded run as a target ranks components. Runs of one model on one probe are of one task.

    Args:
        scorer: name of the scores.

    Raises:
        TrajectoryError: not a trajectory.
        ConfigError: it lacks these scores, or they were taken with other parameters.
    """
    trajectory = Trajectory.read(path)
    series = trajectory.series(scorer)
    taken, wanted = trajectory.info.get("scorer_params", {}), dict(target.scorer_params)
    if taken != wanted:
        raise ConfigError(
            f"{path} was recorded with parameters {taken} of scorer {scorer!r}, target {target.name!r} has {wanted}; "
            "record it with this target, or change target_params"
        )
    damage: np.ndarray | None = trajectory.values(DAMAGE) if DAMAGE in target.measures else None
    return Past(series, f"{trajectory.model_hash} {trajectory.data_hash}", damage)


class _Hindsight(Policy):
    """Base of policies that rank by a recorded run, over the same components as the model in training."""

    ranks = True

    def __init__(self, oracle_trajectory: str):
        self.path = oracle_trajectory

    def prepare(self, ground: Ground) -> None:
        self.past = ground.past(self.path)
        self.series = self.past.series


class Oracle(_Hindsight):
    """The circuit at the end of a recorded full run of the same task: hindsight, not a method.

    It ranks by the run's target, over the whole of the recorded run where that is about a mean.
    """

    name = "oracle"

    def prepare(self, ground: Ground) -> None:
        super().prepare(ground)
        parts = ground.target.parts(self.series, self.past.damage)
        self.scores = ground.target.realised(parts, 0, len(self.series.steps) - 1)

    def mask(self, view: View) -> Mask:
        require_same_components(self.series, view.table)
        return view.select(self.scores)


class OracleAhead(_Hindsight):
    """Greedy hindsight: what a recorded full run of the same task found most critical until the next decision.

    At every decision, the components with the highest mean score over the recorded snapshots of the steps from
    `view.step` up to, not including, `view.step + view.horizon` (by default the next re-mask); the nearest snapshot
    where none was recorded in between. If the run was recorded with scorer `utility`, this is the *oracle by utility*:
    the components that, all being trained, had most to gain from the steps that the mask is for. Greedy, since no mask
    considers those after it, and hindsight of another run, since the recorded weights went their own way.
    """

    name = "oracle_ahead"
    remasks = True

    def mask(self, view: View) -> Mask:
        require_same_components(self.series, view.table)
        steps, until = self.series.steps, view.step + view.horizon
        ahead = (steps >= view.step) & (steps < until)
        if not ahead.any():
            ahead[np.abs(2 * steps - view.step - until).argmin()] = True
        return view.select(self.series.values[:, ahead].mean(1, dtype=np.float64))


class Replay(Policy):
    """The masks of a saved schedule, of components or of single weights.

    Args:
        mask_schedule: the schedule.json of a run; masks of single weights lie in the folder `masks` beside it.
    """

    name = "replay"

    def __init__(self, mask_schedule: str):
        self.path = mask_schedule

    def prepare(self, ground: Ground) -> None:
        self.numbers = ground.numbers
        self.schedule = MaskSchedule.read(self.path, ground.numbers)
        self.own_steps = frozenset(step for step, _ in self.schedule.entries)
        self.remasks = len(self.schedule.entries) > 1

    def mask(self, view: View) -> Mask | WeightMask:
        mask, numbers = self.schedule.at(view.step), self.numbers
        size = len(numbers.vector_ids(mask.components))
        if size > view.n_vectors:
            raise BudgetError(
                f"mask schedule: its mask at step {view.step} has {size} {numbers.unit}, the budget buys "
                f"{view.n_vectors}; raise the budget to {size * numbers.d_model / numbers.model_parameters:.4g}"
            )
        return mask
