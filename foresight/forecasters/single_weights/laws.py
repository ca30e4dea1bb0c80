"""Laws by which a path of weights goes on: each is a vector of coefficients, one for every snapshot.

With snapshots theta_1..theta_n, the shift from the last of them to where the weights are expected is sum c_i theta_i.
The coefficients of every law sum to 0, so any fixed weights may be subtracted from all snapshots first, and the shift
can be summed up one snapshot at a time, whatever the number of snapshots.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...common.errors import ConfigError


def displacement(n_snapshots: int, factor: float = 1.0) -> np.ndarray:
    """Coefficients [n_snapshots] of factor x (last - first): the way so far, gone on for `factor` times its length.

    Raises:
        ConfigError: fewer than two snapshots.
    """
    _enough(n_snapshots)
    coefficients = np.zeros(n_snapshots)
    coefficients[[0, -1]] = -factor, factor
    return coefficients


def linear(steps: Sequence[int], horizon: int) -> np.ndarray:
    """Coefficients of the straight line of least squares in t = step, for every weight by itself.

    Its slope is gone on from the last snapshot, not from the line's own value there, which lies off the path. Linear
    extrapolation of weights is common practice; the anchor is this project's own choice.

    Args:
        steps: of the snapshots, ascending, at least two.
        horizon: steps from the last snapshot to where the weights are wanted, at least 0.

    Returns:
        float64 [n_snapshots].

    Raises:
        ConfigError: fewer than two steps, steps that do not ascend, or a negative horizon.
    """
    times = _times(steps, horizon)
    return horizon * _slope(times)


def logarithmic(steps: Sequence[int], horizon: int) -> np.ndarray:
    """`linear`, in t = log(1 + step): weights that move ever more slowly."""
    times = _times(steps, horizon)
    return float(np.log1p(times[-1] + horizon) - np.log1p(times[-1])) * _slope(np.log1p(times))


def _slope(times: np.ndarray) -> np.ndarray:
    """Coefficients of the least-squares slope over `times`: they sum to 0."""
    centred = times - times.mean()
    return centred / (centred @ centred)


def _times(steps: Sequence[int], horizon: int) -> np.ndarray:
    _enough(len(steps))
    times = np.asarray(steps, np.float64)
    if times[0] < 0 or (np.diff(times) <= 0).any():
        raise ConfigError(f"snapshots at steps {list(steps)}; expected steps from 0 on that ascend")
    if horizon < 0:
        raise ConfigError(f"horizon is {horizon} steps; expected 0 or more")
    return times


def _enough(n_snapshots: int) -> None:
    if n_snapshots < 2:
        raise ConfigError(
            f"a path of {n_snapshots} snapshots has no direction; at least two are needed at or before the cutoff"
        )
