"""The local level is recovered under noise, exactly where the answer is known."""

import numpy as np
import pytest

from foresight.forecasters.local_level import SHARES, LocalLevel
from foresight.forecasters.relative import from_relative, to_relative
from support.forecasting import fitted, noisy_level
from support.planted import make_series, random_walk


def test_local_level_recovers_the_level_under_noise_better_than_persistence_and_the_mean():
    errors = {}
    for seed in range(3):
        level, values = noisy_level(seed, n=400)
        truth = to_relative(np.exp(level))[0][:, -1]
        for name in ("local_level", "persistence", "mean"):
            found = to_relative(fitted(name, values, 20).predict(10)[:, None])[0][:, 0]
            errors.setdefault(name, []).append(np.sqrt(np.mean((found - found.mean() - truth + truth.mean()) ** 2)))
    assert np.mean(errors["local_level"]) < 0.6 * np.mean(errors["persistence"])
    assert np.mean(errors["local_level"]) < 0.9 * np.mean(errors["mean"])


@pytest.mark.parametrize(("step", "noise", "expected"), [(0.0, 0.3, 0.0), (0.1, 0.0, 1.0), (0.2, 0.4, 0.2)])
def test_local_level_finds_how_much_of_the_movement_is_noise(step, noise, expected):
    _, values = noisy_level(3, n=500, t=30, step=step, noise=noise)
    forecaster = fitted("local_level", values, 30)
    assert forecaster.frequency_.sum() == pytest.approx(1)
    assert forecaster.frequency_ @ SHARES == pytest.approx(expected, abs=0.1)


def test_local_level_is_the_exact_posterior_mean(monkeypatch):
    steps, share = np.array([0, 10, 20, 50, 60]), 0.2
    monkeypatch.setattr("foresight.forecasters.local_level.SHARES", (share,))
    values = random_walk(6, 5)
    time = np.array([0, 1, 2, 5, 6.0])
    covariance = share * np.minimum.outer(time, time) + 1e6  # of the levels; the start is diffuse
    logs, level = to_relative(values.astype(np.float32))
    posterior = logs @ np.linalg.solve(covariance + (1 - share) * np.eye(5), covariance[-1])
    prediction = LocalLevel().fit(make_series(values, steps)).predict(10)
    np.testing.assert_allclose(prediction, from_relative(posterior, level[-1]), rtol=1e-4)
