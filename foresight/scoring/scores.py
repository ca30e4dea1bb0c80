"""What a scorer gives and a trajectory keeps, and how exact effects that are known of some steps correct the others."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Scores:
    """Scores of all components at one step, in table order.

    Attributes:
        values: float32 [n_components], finite.
        stderr: float32 [n_components], standard error of `values` over examples or minibatches; NaN for a single one.
        exact, exact_stderr: float32 [n_components], what `corrected` found instead; NaN where it did not look, and None
            where it never does.
    """

    values: np.ndarray
    stderr: np.ndarray
    exact: np.ndarray | None = None
    exact_stderr: np.ndarray | None = None

    @property
    def error(self) -> np.ndarray:
        """What has to be added to `values`: exact minus value, float32 [n_components], 0 where nothing was patched."""
        return np.zeros_like(self.values) if self.exact is None else np.nan_to_num(self.exact - self.values)


def errors_of_estimates(steps: np.ndarray, estimates: np.ndarray, exact: np.ndarray) -> np.ndarray:
    """What has to be added to estimates: exact minus estimate where both are known, interpolated linearly over the
    steps between, constant before the first and after the last, and 0 for a component that was never patched.

    Errors are added, not multiplied: what attribution misses has an estimate of about zero, and a factor on that is a
    factor on noise.

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
