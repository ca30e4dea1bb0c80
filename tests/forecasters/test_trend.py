"""Damped drift finds how trends bend, and follows them."""

import numpy as np
import pytest

from foresight.forecasters.trend import DAMPINGS, RECENT, _follow, _powers
from foresight.trajectory.metrics import skill
from support.forecasting import fitted, noisy_level, skill_of


def bending(seed, damping=0.8, n=200, t=16, steps=None, noise=0.002):
    """Scores whose logs follow damped trends, at a mean score of 1."""
    rng = np.random.default_rng(seed)
    time = np.arange(t) if steps is None else np.asarray(steps) / 10
    values = np.exp(rng.normal(0, 0.5, (n, 1)) + rng.normal(0, 1, (n, 1)) * (1 - damping**time))
    return values * np.exp(rng.normal(0, noise, values.shape)) / values.mean(0)


@pytest.mark.parametrize("damping", DAMPINGS[:3])
def test_damped_drift_finds_the_damping_and_follows_the_bend(damping):
    values = bending(1, damping)
    forecaster = fitted("damped_drift", values, 8)
    assert forecaster.constants_[2] == damping
    assert skill_of("damped_drift", values, 8) > 0.7 > 0 > skill_of("drift", values, 8)


def test_a_damped_trend_is_followed_exactly_at_irregular_steps():
    time, end = np.cumsum([0, 1, 1, 3, 0.5, 1, 2]), 20.0
    curve = np.outer([1.0, -0.3], 1 - 0.8 ** np.append(time, end))
    level, trend, squares = _follow(curve[:, :-1].T, np.diff(time), 0.5, 0.3, 0.8, 1.0)
    assert squares == pytest.approx(0, abs=1e-20)
    np.testing.assert_allclose(level + _powers(0.8, end - time[-1]) * trend, curve[:, -1], rtol=1e-12)


def test_damped_drift_at_irregular_steps():
    steps = np.cumsum([0, 10, 10, 30, 5, 10, 20, 10, 10, 10, 15])
    values = bending(2, 0.8, t=11, steps=steps, noise=0.002)
    prediction = fitted("damped_drift", values, 8, steps=steps).predict(int(steps[-1] - steps[7]))
    assert skill(prediction, values[:, -1], values[:, 7]) > 0.5


def test_damped_drift_follows_the_latest_snapshots_only(monkeypatch):
    values = np.maximum(0.1, noisy_level(0, t=RECENT + 20)[1])
    values /= values.mean(0)
    whole, recent = (fitted("damped_drift", v, v.shape[1]).predict(30) for v in (values, values[:, -RECENT:]))
    np.testing.assert_array_equal(whole, recent)
    monkeypatch.setattr("foresight.forecasters.trend.RECENT", 10_000)
    np.testing.assert_array_equal(fitted("damped_drift", values[:, -RECENT:], RECENT).predict(30), recent)
    old = fitted("damped_drift", values, RECENT + 20).predict(30)
    np.testing.assert_allclose(old, recent, rtol=0.02)  # next to nothing of what is older was left


def test_damped_drift_of_noise_is_no_trend():
    _, values = noisy_level(0, step=0.0)
    forecaster = fitted("damped_drift", values, 19)
    assert forecaster.constants_[1] == 0
    assert skill_of("damped_drift", values, 19) > 0.1
