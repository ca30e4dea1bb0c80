"""What each forecaster believes, on series whose future is known."""

import os
import subprocess
import sys
import time

import numpy as np
import pytest

from foresight.common.errors import CheckpointError
from foresight.forecasters import make_forecaster
from foresight.forecasters.features import FEATURES, Frame, canonical_order, windows
from foresight.forecasters.relative import from_relative, to_relative
from foresight.trajectory.metrics import skill
from support.planted import make_series, random_walk, trends

IRREGULAR = np.cumsum([0, 10, 10, 25, 5, 10, 40, 10, 10, 10, 3, 17])


def skill_of(name, values, seen, past=(), **params):
    """Skill at the end of `values`, forecast from its first `seen` snapshots (10 steps apart)."""
    forecaster = make_forecaster(name, **params)
    if past:
        forecaster.pretrain([make_series(v) for v in past])
    forecaster.fit(make_series(values[:, :seen]))
    prediction = forecaster.predict(10 * (values.shape[1] - seen))
    return skill(prediction, values[:, -1], values[:, seen - 1])


def test_persistence_is_the_last_snapshot():
    series = make_series(random_walk(30, 5))
    np.testing.assert_array_equal(make_forecaster("persistence").fit(series).predict(99), series.values[:, -1])


def test_mean_is_the_geometric_mean_of_relative_scores():
    values = np.array([[1, 4, 2], [3, 4, 2.0]])  # relative to the step's mean: (.5, 1.5), (1, 1), (1, 1); last level 2
    prediction = make_forecaster("mean").fit(make_series(values, layers=1)).predict(10)
    np.testing.assert_allclose(prediction, [2 * 0.5 ** (1 / 3), 2 * 1.5 ** (1 / 3)], rtol=2e-3)


def test_smoothing_at_even_steps_is_the_textbook_recursion():
    values = random_walk(40, 6)
    logs, level = to_relative(values.astype(np.float32))
    smooth = logs[:, 0].astype(float)
    for i in range(1, 6):
        smooth = 0.4 * logs[:, i] + 0.6 * smooth
    prediction = make_forecaster("smoothing", alpha=0.4).fit(make_series(values)).predict(10)
    np.testing.assert_allclose(prediction, from_relative(smooth, level[-1]), rtol=1e-5)


def test_smoothing_with_alpha_one_is_persistence():
    series = make_series(random_walk(40, 12), IRREGULAR)
    np.testing.assert_allclose(
        make_forecaster("smoothing", alpha=1).fit(series).predict(10), series.values[:, -1], rtol=1e-5
    )


def test_a_late_snapshot_counts_as_those_it_stands_for():
    values = random_walk(40, 5)
    even = make_series(values[:, [0, 1, 2, 3, 3, 4]])  # the fourth seen twice, at 30 and 40
    late = make_series(values, [0, 10, 20, 40, 50])  # seen once, at 40, after a gap
    one, two = (make_forecaster("smoothing").fit(series).predict(10) for series in (even, late))
    np.testing.assert_allclose(one, two, rtol=1e-5)


def test_averages_beat_persistence_on_noise_around_a_constant():
    rng = np.random.default_rng(0)
    values = np.exp(rng.normal(0, 1, (200, 1)) + rng.normal(0, 0.3, (200, 13)))
    assert skill_of("mean", values, 12) > 0.2
    assert skill_of("smoothing", values, 12) > 0.1


def test_drift_continues_straight_lines_exactly_also_at_irregular_steps():
    slope, start = np.array([[0.1], [0.0], [-0.01]]), np.array([[1.0], [2.0], [9.0]])
    series = make_series(start + slope * IRREGULAR, IRREGULAR, layers=1)
    prediction = make_forecaster("drift").fit(series).predict(33)
    np.testing.assert_allclose(prediction, (start + slope * (IRREGULAR[-1] + 33))[:, 0], rtol=1e-5)


def test_drift_stops_at_zero_and_needs_two_snapshots():
    assert make_forecaster("drift").fit(make_series([[3, 1.0]], layers=1)).predict(100) == 0
    assert make_forecaster("drift").fit(make_series([[3.0]], layers=1)).predict(100) == 3


def test_damped_drift_is_the_sum_of_powers_and_stays_bounded():
    series = make_series([[1.0, 2, 3]], layers=1)  # slope 1 a cadence of 10 steps
    damped = make_forecaster("drift", damping=0.5).fit(series)
    assert damped.predict(30)[0] == pytest.approx(3 + 0.5 + 0.25 + 0.125)
    assert damped.predict(10**6)[0] == pytest.approx(4)


@pytest.mark.parametrize("name, least", [("drift", 0.7), ("ridge", 0.4), ("boosting", 0.4)])
def test_trends_are_forecast_better_than_by_persistence(name, least):
    assert least < np.mean([skill_of(name, trends(300, 16, seed), 12) for seed in range(3)]) < 1


@pytest.mark.parametrize("name", ["ridge", "boosting"])
def test_on_random_walks_there_is_next_to_nothing_to_win_or_lose(name):
    assert abs(np.mean([skill_of(name, random_walk(300, 24, seed), 20) for seed in range(4)])) < 0.1


@pytest.mark.parametrize("name", ["ridge", "boosting"])
def test_a_common_level_that_wanders_does_no_harm(name):
    def wandering(seed):
        level = np.cumsum(np.random.default_rng(seed + 50).normal(0, 0.3, 16))
        return random_walk(300, 16, seed) * np.exp(level)

    assert abs(np.mean([skill_of(name, wandering(seed), 12) for seed in range(4)])) < 0.1


@pytest.mark.parametrize("name", ["ridge", "boosting"])
def test_past_runs_teach_what_a_short_run_cannot_show(name):
    def saturating(seed, n=200):  # heads grow and MLP blocks shrink, after the third snapshot only
        rng = np.random.default_rng(seed)
        sign = np.where(np.arange(n) % 3 == 0, 1.0, -1.0)[:, None]
        late = np.maximum(0, np.arange(12) - 2)
        return np.exp(rng.normal(0, 0.5, (n, 1)) + 0.1 * sign * late + rng.normal(0, 0.02, (n, 12)))

    past = [saturating(seed, n) for seed, n in ((1, 150), (2, 90), (3, 210))]
    assert skill_of(name, saturating(9), 3) == pytest.approx(0, abs=1e-6)
    assert skill_of(name, saturating(9), 3, past) > 0.3


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


# Features


def frame(values, steps=None):
    return Frame(make_series(values, steps))


def test_relative_scores_invert():
    values = random_walk(50, 3).astype(np.float32)
    values[4] = 0
    logs, level = to_relative(values)
    np.testing.assert_allclose(from_relative(logs[:, 1], level[1]), values[:, 1], rtol=1e-5, atol=1e-6)
    assert from_relative(np.full(50, 1e3), 2.0).max() <= 100 * (1 + 1e-6)


def test_z_is_standardised_at_every_step_and_free_of_scale():
    values = random_walk(100, 6)
    f, scaled = frame(values), frame(values * np.logspace(-9, 9, 6))
    for origin in range(6):
        z = f.at(origin, np.arange(100))[:, FEATURES.index("z")]
        assert abs(z.mean()) < 1e-5 and z.std() == pytest.approx(1, abs=1e-4)
        np.testing.assert_allclose(scaled.at(origin, np.arange(100)), f.at(origin, np.arange(100)), atol=1e-4)


def test_features_at_an_origin_do_not_depend_on_what_follows():
    values = random_walk(60, 12)
    poisoned = values.copy()
    poisoned[:, 7:] = 1e6 * np.random.default_rng(1).random((60, 5))
    rows = np.arange(60)
    for origin in (0, 1, 3, 6):
        one, two = (frame(v, IRREGULAR).at(origin, rows) for v in (values, poisoned))
        assert one.shape == (60, len(FEATURES)) and np.isfinite(one).all()
        np.testing.assert_array_equal(one, two)


def test_lags_and_slopes_are_in_cadences_at_irregular_steps():
    slope = np.linspace(-1, 1, 60)
    f = frame(random_walk(60, 12), IRREGULAR)
    f.centred, f.unit = (slope[:, None] * IRREGULAR / 10).astype(np.float32), np.ones(12, np.float32)
    features = dict(zip(FEATURES, f.at(11, np.arange(60)).T, strict=True))
    for lag in (1, 2, 4):
        np.testing.assert_allclose(features[f"z - z {lag} cadences ago"], lag * slope, atol=1e-4)
    np.testing.assert_allclose(features["least-squares slope of z over the last 5 snapshots"], slope, atol=1e-5)


def test_training_windows_are_capped_and_join_features_with_later_changes():
    series = make_series(random_walk(500, 30))
    f = Frame(series)
    features, horizons, changes = windows(f, 5000)
    assert len(features) == len(horizons) == len(changes) <= 5000
    assert set(horizons.tolist()) == {1, 2, 4, 8, 16}
    z = {round(float(v), 5): i for i, v in enumerate(f.centred[:, 1] * f.unit[1])}
    first = [i for i in range(len(features)) if features[i, -1] == np.float32(np.log1p(1)) and horizons[i] == 2]
    assert first
    for i in first:
        component = z[round(float(features[i, 0]), 5)]
        change = (f.centred[component, 3] - f.centred[component, 1]) * f.unit[1]
        assert changes[i] == pytest.approx(change, abs=1e-5)


def test_canonical_order_undoes_any_permutation():
    series = make_series(random_walk(50, 2))
    order = np.random.default_rng(0).permutation(50)
    permuted = series.take(order)
    np.testing.assert_array_equal(series.name[canonical_order(series)], permuted.name[canonical_order(permuted)])


SPEED = """
import resource, time
import numpy as np
from foresight.forecasters import make_forecaster
from planted import make_series, random_walk
series = make_series(random_walk(100_000, 100), layers=50)
make_forecaster("ridge").fit(make_series(random_walk(100, 10))).predict(10)
start = time.process_time()
make_forecaster("ridge").fit(series).predict(50)
print(time.process_time() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6)
"""


@pytest.mark.slow
def test_the_default_is_fast_on_a_hundred_thousand_components():
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
