"""Relative log scores: the scale-free form in which scores are averaged and compared across steps and runs.

The level of a step is its mean score; the relative log score is log(score / level + FLOOR), 0 where a step is all zero.
The floor keeps a zero score finite and makes everything below a thousandth of the mean alike. Own definition.
"""

from __future__ import annotations

import numpy as np

FLOOR = 1e-3


def to_relative(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Relative log scores float32 [n, t] and levels float64 [t] of scores [n, t] >= 0; a level of 0 stays 0."""
    level = values.mean(0, dtype=np.float64)
    logs = values / np.where(level > 0, level, 1).astype(np.float32)
    logs += np.float32(FLOOR)
    np.log(logs, out=logs)
    logs[:, level == 0] = 0
    return logs, level


def from_relative(logs: np.ndarray, level: float) -> np.ndarray:
    """Scores [n] of relative log scores [n] at a level; no score exceeds n levels, as none can."""
    logs = np.asarray(logs, np.float64)
    return np.maximum(np.exp(np.minimum(logs, np.log(len(logs) + FLOOR))) - FLOOR, 0) * level
