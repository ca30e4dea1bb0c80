"""Rules about predictions and their cost. A forecaster that breaks one: AssertionError."""

from __future__ import annotations

import time
import tracemalloc
from dataclasses import replace

import numpy as np

from ...trajectory.series import Series
from ..forecaster import Forecaster
from . import require
from .cases import HORIZON, STEPS, N, irregular, ready, scores, series_of

GROWTH = 20
"""Ten times the components or snapshots may cost at most this many times the processor time and memory."""
_FLOOR = {"seconds": 0.02, "bytes": 2e6}
"""Least cost that is counted at the small size: below it there is only overhead, which does not grow."""


def output(forecaster: Forecaster) -> None:
    """`fit` and `update` return self, `predict` gives finite scores >= 0 as float32 [n_components] at any horizon."""
    made = ready(forecaster)
    require.that(made.fit(irregular()) is made, "fit does not return self")
    for horizon in (1, 7, HORIZON, 10_000):
        require.scores(made.predict(horizon), (N,), f"predict({horizon})")
    require.that(made.update(500, scores()[:, 0]) is made, "update does not return self")
    require.scores(made.predict(HORIZON), (N,), "predict after update")


def one_snapshot(forecaster: Forecaster) -> None:
    """One snapshot is enough to predict something."""
    require.scores(ready(forecaster).fit(series_of(scores()[:, :1])).predict(HORIZON), (N,), "prediction")


def short_series(forecaster: Forecaster) -> None:
    """Two, three or four snapshots are enough too, at even and irregular steps, and so is a single component."""
    made = ready(forecaster)
    for t in (2, 3, 4):
        for steps in (None, STEPS[2 : t + 2]):
            require.scores(made.fit(series_of(scores()[:, :t], steps)).predict(HORIZON), (N,), f"{t} snapshots")
    require.scores(made.fit(series_of(scores(1))).predict(HORIZON), (1,), "one component")


def constant_series(forecaster: Forecaster) -> None:
    """Scores that never change, are all equal, all zero, tiny, or zero at first give a finite prediction."""
    made, values = ready(forecaster), scores()
    still, late = np.repeat(values[:, :1], 8, 1), values[:, :8].copy()
    late[:, 0] = 0
    cases = {"constant": still, "equal": np.ones((N, 8)), "zero": np.zeros((N, 8)), "tiny": still * 1e-30, "late": late}
    for what, case in cases.items():
        require.scores(made.fit(series_of(case)).predict(HORIZON), (N,), f"{what} scores")


def deterministic(forecaster: Forecaster) -> None:
    """The same series gives the same prediction, bit for bit, whatever the global random states are."""
    predictions = []
    for seed in (1, 2):
        with require.globally_seeded(seed):
            made = ready(forecaster).fit(irregular())
            predictions += [made.predict(HORIZON), made.predict(HORIZON)]
    for prediction in predictions[1:]:
        require.equal(prediction, predictions[0], "the same series predicted twice")


def permutation_equivariance(forecaster: Forecaster) -> None:
    """Components in another order get the same predictions in that order."""
    series, order = irregular(), np.random.default_rng(3).permutation(N)
    straight = ready(forecaster).fit(series).predict(HORIZON)
    permuted = ready(forecaster).fit(series.take(order)).predict(HORIZON)
    require.equal(permuted, straight[order], "components in another order", tolerance=1e-5)


def ties_stable(forecaster: Forecaster) -> None:
    """Components alike in layer, kind, size and history get one prediction (within rounding): ties stay ties."""
    values = scores()
    twins = np.array([(i, j) for i in range(N) for j in range(i + 3, min(i + 7, N), 3) if i * 4 // N == j * 4 // N])
    for i, j in twins:
        values[j] = values[i]
    prediction = ready(forecaster).fit(series_of(values, STEPS)).predict(HORIZON)
    require.equal(prediction[twins[:, 1]], prediction[twins[:, 0]], "components alike in everything", tolerance=1e-6)


def no_look_ahead(forecaster: Forecaster) -> None:
    """Snapshots after the cutoff have no influence: neither cut off by `until`, nor seen in an earlier `fit`."""
    clean, garbage = irregular(), 1e6 * np.random.default_rng(1).random((N, 4))
    cutoff = int(clean.steps[-1])
    poisoned = series_of(np.hstack([scores(), garbage]), np.append(STEPS, cutoff + 10 * np.arange(1, 5)))
    expected = ready(forecaster).fit(clean).predict(HORIZON)
    made = ready(forecaster).fit(poisoned.until(cutoff))
    require.equal(made.predict(HORIZON), expected, "a series whose future was cut off")
    made.fit(poisoned).predict(HORIZON)
    require.equal(made.fit(clean).predict(HORIZON), expected, "fit after an earlier fit that had seen the future")


def update_equals_fit(forecaster: Forecaster) -> None:
    """`fit` on some snapshots and `update` with the rest predict the same as `fit` on all (within rounding)."""
    whole = irregular()
    expected = ready(forecaster).fit(whole).predict(HORIZON)
    made = ready(forecaster).fit(whole.until(int(STEPS[-4])))
    for i in (-3, -2, -1):
        made.update(int(STEPS[i]), whole.values[:, i])
        made.predict(HORIZON)
    steps = made.series_.steps.tolist()
    require.that(steps == whole.steps.tolist(), f"series_ has steps {steps}")
    require.equal(made.predict(HORIZON), expected, "snapshots one by one", tolerance=1e-5)


def standard_errors(forecaster: Forecaster) -> None:
    """Scores may come with standard errors, some or all of them unknown or 0; an update comes without."""
    stderr = 0.1 * scores()
    stderr[::5], stderr[:, [0, 4, -1]], stderr[1] = 0, np.nan, np.nan
    for errors in (stderr, np.full_like(stderr, np.nan), np.zeros_like(stderr)):
        made = ready(forecaster).fit(replace(irregular(), stderr=errors))
        require.scores(made.predict(HORIZON), (N,), "prediction from scores with standard errors")
        require.scores(made.update(500, scores()[:, 1]).predict(HORIZON), (N,), "prediction after an update")


def growth(forecaster: Forecaster) -> None:
    """Ten times the components, or the snapshots, cost at most 20 times the time and memory (NumPy's and Python's)."""
    for what, small, large in (("components", (300, 12), (3000, 12)), ("snapshots", (300, 12), (300, 120))):
        made = ready(forecaster)
        few, many = (series_of(scores(*shape)) for shape in (small, large))
        _cost(made, few)  # imports and caches
        least = min((_cost(made, few) for _ in range(2)), key=lambda cost: cost["seconds"])
        allowed = {unit: GROWTH * max(least[unit], floor) for unit, floor in _FLOOR.items()}
        for _ in range(3):  # on a busy machine one good measurement is enough
            found = _cost(made, many)
            if all(found[unit] <= allowed[unit] for unit in allowed):
                break
        else:
            grown = ", ".join(f"{found[u] / max(least[u], _FLOOR[u]):.0f} times the {u}" for u in allowed)
            raise AssertionError(f"10 times the {what} cost {grown}; at most {GROWTH} times are allowed")


def _cost(made: Forecaster, series: Series) -> dict[str, float]:
    """Processor seconds and peak bytes of fit + predict."""
    tracing = tracemalloc.is_tracing()
    if not tracing:
        tracemalloc.start()
    tracemalloc.reset_peak()
    before, start = tracemalloc.get_traced_memory()[0], time.process_time()
    try:
        made.fit(series).predict(HORIZON)
        return {"seconds": time.process_time() - start, "bytes": float(tracemalloc.get_traced_memory()[1] - before)}
    finally:
        if not tracing:
            tracemalloc.stop()
