"""Built-in forecasters in a small size, fitted to planted series."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from foresight.forecasters import Forecaster, make_forecaster
from foresight.forecasters.local_level import LEAST_VARIANCE, SHARES
from foresight.trajectory.metrics import skill
from foresight.trajectory.series import Series

from .planted import make_series, random_walk

IRREGULAR = np.cumsum([0, 10, 10, 25, 5, 10, 40, 10, 10, 10, 3, 17])
SMALL: dict[str, dict[str, Any]] = {
    "boosting": {"max_iter": 5, "max_rows": 2000},
    "damped_drift": {},
    "drift": {},
    "gaussian_process": {"max_rows": 100},
    "local_level": {},
    "mean": {},
    "persistence": {},
    "recurrent": {"max_iter": 4, "hidden": 3},
    "ridge": {"max_rows": 2000},
    "smoothing": {},
    "stacking": {"members": ("mean", "ridge")},
}
"""Every built-in forecaster with parameters that keep it quick: for what must hold whatever it has learned."""
QUICK: dict[str, dict[str, Any]] = {
    "gaussian_process": {"max_rows": 400},
    "recurrent": {"max_iter": 60, "hidden": 8},
}
"""Parameters of the slow learners that keep them quick and still let them learn."""


def small(name: str) -> Forecaster:
    """An unfitted forecaster of SMALL."""
    return make_forecaster(name, **SMALL[name])


def walk(t: int = 12, seed: int = 0, n: int = 60, steps=None) -> Series:
    """A random walk as a series."""
    return make_series(random_walk(n, t, seed), steps)


def fitted(
    name: str, values: np.ndarray, seen: int, past: Sequence[np.ndarray] = (), steps=None, **params: Any
) -> Forecaster:
    """A forecaster taught by past runs and fitted to the first `seen` snapshots (10 steps apart by default)."""
    forecaster = make_forecaster(name, **{**QUICK.get(name, {}), **params})
    if len(past):
        forecaster.pretrain([make_series(each) for each in past])
    return forecaster.fit(make_series(values[:, :seen], None if steps is None else steps[:seen]))


def skill_of(name: str, values: np.ndarray, seen: int, past: Sequence[np.ndarray] = (), **params: Any) -> float:
    """Skill at the end of `values`, forecast from its first `seen` snapshots, 10 steps apart."""
    prediction = fitted(name, values, seen, past, **params).predict(10 * (values.shape[1] - seen))
    return skill(prediction, values[:, -1], values[:, seen - 1])


def late_growth(seed: int, n: int = 200) -> np.ndarray:
    """Heads grow and MLP blocks shrink, after the third snapshot only: three snapshots do not show it."""
    rng = np.random.default_rng(seed)
    sign = np.where(np.arange(n) % 3 == 0, 1.0, -1.0)[:, None]
    late = np.maximum(0, np.arange(12) - 2)
    return np.exp(rng.normal(0, 0.5, (n, 1)) + 0.1 * sign * late + rng.normal(0, 0.02, (n, 12)))


LATE_GROWTH_BEFORE = [late_growth(seed, n) for seed, n in ((1, 150), (2, 90), (3, 210), (4, 120))]
"""Past runs that show it."""


def noisy_level(seed: int, n: int = 200, t: int = 20, step: float = 0.1, noise: float = 0.4):
    """Levels (log) that wander, and the noisy scores that are seen of them: both [n, t]."""
    rng = np.random.default_rng(seed)
    level = rng.normal(0, 1, (n, 1)) + np.cumsum(rng.normal(0, step, (n, t)), 1)
    return level, np.exp(level + rng.normal(0, noise, (n, t)))


def filter_by_share(logs: np.ndarray, gaps: np.ndarray, _noises: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`local_level._filter` one share after the other, without standard errors: what all at once must be equal to."""
    levels, likelihoods = [], []
    for share in SHARES:
        noise = 1 - share
        level, variance = logs[0].copy(), noise
        squares, log_scale = np.zeros(len(level), np.float32), 0.0
        for now, gap in zip(logs[1:], gaps, strict=True):
            variance += share * gap
            scale = variance + noise
            error, gain = now - level, variance / scale
            level += np.float32(gain) * error
            squares += error * error * np.float32(1 / scale)
            log_scale += np.log(scale)
            variance *= 1 - gain
        seen = len(gaps)
        levels.append(level)
        likelihoods.append(-(seen * np.log(np.maximum(squares / seen, LEAST_VARIANCE)) + log_scale) / 2)
    return np.stack(levels), np.stack(likelihoods)
