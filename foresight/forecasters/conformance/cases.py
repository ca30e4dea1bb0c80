"""The series that rules are tried on."""

from __future__ import annotations

from copy import deepcopy

import numpy as np

from ...trajectory.series import Series
from ..forecaster import Forecaster

N = 48
STEPS = np.cumsum([0, 10, 10, 25, 5, 10, 40, 10, 10, 10, 3, 17])
HORIZON = 30


def scores(n: int = N, t: int = len(STEPS), seed: int = 0) -> np.ndarray:
    """Scores float64 [n, t] whose logs wander and drift a little, each component at its own level."""
    rng = np.random.default_rng(seed)
    slope = rng.normal(0, 0.05, (n, 1)) * np.arange(t)
    return np.exp(rng.normal(0, 1, (n, 1)) + slope + np.cumsum(rng.normal(0, 0.05, (n, t)), 1))


def series_of(values: np.ndarray, steps: np.ndarray | None = None) -> Series:
    """A series of scores [n, t] over four layers, every third component a head; by default every ten steps."""
    i = np.arange(len(values))
    layer, kind = i * 4 // len(values), np.where(i % 3 == 0, "head", "mlp")
    name = [f"L{a}.{k}.{j}" for a, k, j in zip(layer, kind, i, strict=True)]
    steps = np.arange(values.shape[1]) * 10 if steps is None else steps
    return Series(values, steps, layer, kind, i, np.where(i % 3 == 0, 8, 4), np.array(name))


def irregular(seed: int = 0) -> Series:
    """Twelve snapshots at irregular steps."""
    return series_of(scores(seed=seed), STEPS)


def histories() -> list[Series]:
    """Two past runs, of other sizes than the series above."""
    return [series_of(scores(36, 9, 7)), series_of(scores(24, 11, 8))]


def ready(forecaster: Forecaster) -> Forecaster:
    """A copy that can be fitted: it keeps its pretraining, or gets some if it needs it and has none."""
    copy = deepcopy(forecaster)
    return copy.pretrain(histories()) if copy.needs_pretraining and not copy._pretrained_arrays() else copy
