"""Recorded runs that policies learn from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..common.errors import ConfigError
from ..scoring.virtual_moves import DAMAGE
from ..trajectory.series import Series
from ..trajectory.trajectory import Trajectory
from .targets import Target


@dataclass(frozen=True)
class Past:
    """A recorded run; runs of one `group` (a task and model) are not independent evidence.

    Attributes:
        damage: float32 [n_components, n_steps], signed, at the steps of `series`, where the run has measured it.
    """

    series: Series
    group: str
    damage: np.ndarray | None = None


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
