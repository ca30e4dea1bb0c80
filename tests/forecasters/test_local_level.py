"""The local level is recovered under noise, exactly where the answer is known."""

from dataclasses import replace

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


@pytest.mark.parametrize("known", [False, True])
def test_local_level_is_the_exact_posterior_mean(monkeypatch, known):
    steps, share = np.array([0, 10, 20, 50, 60]), 0.2
    monkeypatch.setattr("foresight.forecasters.local_level.SHARES", (share,))
    values = random_walk(6, 5)
    time = np.array([0, 1, 2, 5, 6.0])
    covariance = share * np.minimum.outer(time, time) + 1e6  # of the levels; the start is diffuse
    logs, level = to_relative(values.astype(np.float32))
    noise = np.array([2, 1, 1, 0.5, 0.5]) if known else np.ones(5)
    posterior = logs @ np.linalg.solve(covariance + (1 - share) * np.diag(noise), covariance[-1])
    series = make_series(values, steps)
    if known:
        series = replace(series, stderr=0.3 * np.sqrt(noise) * level * np.ones((6, 1)))
    np.testing.assert_allclose(LocalLevel().fit(series).predict(10), from_relative(posterior, level[-1]), rtol=1e-4)


def test_snapshots_that_are_known_to_be_noisy_count_less():
    level, values = noisy_level(5, n=400, noise=0.1)
    loud = np.arange(20) % 3 == 1
    values *= np.exp(np.random.default_rng(0).normal(0, 1, values.shape) * loud)
    series = make_series(values)
    series = replace(series, stderr=np.where(loud, 1, 0.1) * values.mean(0) * np.ones((400, 1)))
    truth = to_relative(np.exp(level))[0][:, -1]
    errors = [
        np.std(to_relative(LocalLevel().fit(each).predict(10)[:, None])[0][:, 0] - truth)
        for each in (series, replace(series, stderr=None))
    ]
    assert errors[0] < 0.8 * errors[1]


@pytest.mark.parametrize("stderr", [np.nan, 0.0, 0.1])
def test_standard_errors_that_are_unknown_or_all_alike_change_nothing(stderr):
    series = make_series(noisy_level(2)[1] / noisy_level(2)[1].mean(0))
    alike = LocalLevel().fit(replace(series, stderr=np.full(series.values.shape, stderr))).predict(10)
    np.testing.assert_allclose(alike, LocalLevel().fit(series).predict(10), rtol=1e-4)
