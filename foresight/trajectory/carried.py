"""How exact effects, which are known of some components at some steps, correct the scores of all steps.

Errors of estimates are carried over, not factors: what attribution misses has an estimate of about zero, and a factor
on that is a factor on noise.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from .trajectory import Trajectory


def errors_of_estimates(steps: np.ndarray, estimates: np.ndarray, exact: np.ndarray) -> np.ndarray:
    """What has to be added to estimates: exact minus estimate where both are known, interpolated linearly over the
    steps between, constant before the first and after the last, and 0 for a component that was never patched.

    Args:
        steps: int64 [n_steps], increasing.
        estimates, exact: [n_components, n_steps]; exact is NaN where it is not known.

    Returns:
        float64 [n_components, n_steps].
    """
    known, n = ~np.isnan(exact), len(steps)
    at = np.where(known, np.arange(n), -1)
    before = np.maximum.accumulate(at, 1)
    after = np.minimum.accumulate(np.where(known, at, n)[:, ::-1], 1)[:, ::-1]
    before, after = np.where(before < 0, after, before), np.where(after == n, before, after)
    before, after = before % n, after % n  # components never patched are at n: any step will do
    error = np.where(known, exact - estimates.astype(np.float64), 0.0)
    low, high = np.take_along_axis(error, before, 1), np.take_along_axis(error, after, 1)
    way = (steps - steps[before]) / np.maximum(steps[after] - steps[before], 1)
    return low + way * (high - low)


def standard_errors(trajectory: Trajectory, scorer: str) -> np.ndarray:
    """Standard errors of what `Trajectory.series` holds: float64 [n_components, n_snapshots].

    What a correction adds to the variance is carried over as the correction itself is. The factors in trajectories of
    earlier versions are left out.

    Raises:
        UnknownNameError: no such scorer in this trajectory.
    """
    squares, exact = (trajectory.recorded(scorer, w).astype(np.float64) ** 2 for w in ("stderr", "exact_stderr"))
    return np.sqrt(squares + errors_of_estimates(trajectory.steps, squares, exact))
