"""What the learners (pooled regressions, the network, stacking of them) find in series whose future is known."""

import os
import subprocess
import sys
import time

import numpy as np
import pytest

from foresight.common.errors import CheckpointError
from foresight.forecasters import make_forecaster
from foresight.trajectory.metrics import newcomer_recall, skill
from support.forecasting import LATE_GROWTH_BEFORE, fitted, late_growth, skill_of
from support.planted import make_series, random_walk, trends

LEARNERS = ("ridge", "boosting", "gaussian_process", "recurrent")


@pytest.mark.parametrize("name", [*LEARNERS, "stacking"])
def test_past_runs_teach_what_a_short_run_cannot_show(name):
    values = late_growth(9)
    params = {"members": ["smoothing", "ridge"]} if name == "stacking" else {}  # one that can learn from past runs
    alone, taught = fitted(name, values, 3, **params), fitted(name, values, 3, LATE_GROWTH_BEFORE, **params)
    np.testing.assert_array_equal(alone.predict(90), values[:, 2].astype(np.float32))
    assert alone.fallback_ and not taught.fallback_
    prediction = taught.predict(90)
    assert skill(prediction, values[:, -1], values[:, 2]) > 0.5
    assert newcomer_recall(prediction, values[:, -1], values[:, 2], 30) > 0.7


@pytest.mark.parametrize(
    "name, least",
    [("ridge", 0.4), ("boosting", 0.4), ("gaussian_process", 0.3), ("recurrent", 0.3), ("stacking", 0.3)],
)
def test_trends_are_forecast_better_than_by_persistence(name, least):
    seeds, n = (range(3), 300) if name in ("ridge", "boosting") else (range(1), 200)
    assert least < np.mean([skill_of(name, trends(n, 16, seed), 12) for seed in seeds]) < 1


@pytest.mark.parametrize("name", ["damped_drift", "local_level", *LEARNERS, "stacking"])
def test_on_random_walks_there_is_next_to_nothing_to_win_or_lose(name):
    seeds, n, t = (range(4), 300, 24) if name in ("ridge", "boosting") else (range(2), 200, 16)
    assert abs(np.mean([skill_of(name, random_walk(n, t, seed), t - 4) for seed in seeds])) < 0.1


@pytest.mark.parametrize("name", ["ridge", "boosting"])
def test_a_common_level_that_wanders_does_no_harm(name):
    def wandering(seed):
        level = np.cumsum(np.random.default_rng(seed + 50).normal(0, 0.3, 16))
        return random_walk(300, 16, seed) * np.exp(level)

    assert abs(np.mean([skill_of(name, wandering(seed), 12) for seed in range(4)])) < 0.1


def test_past_runs_without_a_pattern_do_little_harm():
    past = [random_walk(100, 12, seed) for seed in range(3)]
    for name in ("recurrent", "ridge", "stacking"):
        assert abs(skill_of(name, random_walk(200, 14, 9), 8, past)) < 0.1


@pytest.mark.parametrize("name", ["ridge", "boosting"])
def test_falling_back_to_persistence_is_said(name):
    series = make_series(random_walk(60, 8))
    forecaster = make_forecaster(name)
    for seen in (1, 2, 3):
        forecaster.fit(series.until(10 * (seen - 1)))
        assert forecaster.fallback_.startswith(f"persistence: {seen} snapshots, 4 are needed")
        np.testing.assert_array_equal(forecaster.predict(20), series.values[:, seen - 1])
    assert forecaster.fit(series).fallback_ is None
    assert (forecaster.predict(20) != series.values[:, -1]).any()
    forecaster.pretrain([series]).fit(series.until(0))
    assert forecaster.fallback_ is None


def test_horizons_beyond_training_are_held():
    forecaster = make_forecaster("ridge").fit(make_series(trends(60, 8)))
    assert forecaster.max_horizon_ == 4  # gaps 1, 2, 4 from the second of eight snapshots
    np.testing.assert_array_equal(forecaster.predict(40), forecaster.predict(4000))
    assert (forecaster.predict(40) != forecaster.predict(30)).any()


@pytest.mark.parametrize("name", ["ridge", "boosting"])
def test_damaged_pretraining_is_refused(name):
    forecaster = make_forecaster(name, max_rows=500).pretrain([make_series(random_walk(60, 8))])
    arrays, data = forecaster.fit(make_series(random_walk(60, 3))).state()
    rows = len(arrays["pretrained.changes"])
    assert 0 < rows <= 500
    bad = [
        {"pretrained.features": arrays["pretrained.features"][:, :-1]},
        {"pretrained.features": arrays["pretrained.features"].astype(np.float64)},
        {"pretrained.horizons": arrays["pretrained.horizons"][:-1]},
        {"pretrained.changes": np.full(rows, np.nan, np.float32)},
        {"pretrained.horizons": np.full(rows, -1, np.float32)},
        {"pretrained.features": np.full_like(arrays["pretrained.features"], 3e38)},
        {k: np.repeat(v, 10, 0) for k, v in arrays.items() if k.startswith("pretrained.")},  # more than the cap
    ]
    for change in bad:
        with pytest.raises(CheckpointError, match="damaged|expected float32"):
            make_forecaster(name, max_rows=500).load_state({**arrays, **change}, data)
    with pytest.raises(CheckpointError):
        make_forecaster(name, max_rows=500).load_state({"pretrained.changes": arrays["pretrained.changes"]}, data)


SPEED = """
import resource, time
import numpy as np
from foresight.forecasters import make_forecaster
from support.planted import make_series, random_walk
series = make_series(random_walk(100_000, 100), layers=50)
make_forecaster("ridge").fit(make_series(random_walk(100, 10))).predict(10)
start = time.process_time()
make_forecaster("ridge").fit(series).predict(50)
print(time.process_time() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6)
"""


@pytest.mark.slow
def test_ridge_is_fast_on_a_hundred_thousand_components():
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    run = subprocess.run([sys.executable, "-c", SPEED], capture_output=True, text=True, check=True, env=env)
    seconds, gigabytes = map(float, run.stdout.split())
    assert seconds < 4 and gigabytes < 2  # processor seconds of both cores together


def test_time_grows_no_faster_than_the_number_of_components():
    def seconds(n):
        series = make_series(random_walk(n, 20))
        start = time.process_time()
        make_forecaster("ridge").fit(series).predict(10)
        return time.process_time() - start

    seconds(100)
    assert seconds(40_000) < 10 * max(seconds(10_000), 0.02)
