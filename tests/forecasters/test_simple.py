"""What the simple forecasters believe, on series whose future is known."""

import numpy as np
import pytest

from foresight.forecasters import make_forecaster
from foresight.forecasters.relative import from_relative, to_relative
from support.forecasting import IRREGULAR, skill_of
from support.planted import make_series, random_walk, trends


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


def test_drift_follows_trends():
    assert 0.7 < np.mean([skill_of("drift", trends(300, 16, seed), 12) for seed in range(3)]) < 1
