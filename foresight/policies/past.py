"""Recorded runs, read from their trajectories."""

from __future__ import annotations

import numpy as np

from ..common.errors import ConfigError
from ..scoring.scorer import DAMAGE
from ..trajectory.trajectory import Trajectory
from .policy import Past
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
