"""The templates are forecasters, and as short as they say."""

import numpy as np
import pytest

from foresight.common.errors import CheckpointError, ConfigError
from foresight.forecasters import make_forecaster
from foresight.forecasters.conformance import parametrize_with_checks
from foresight.forecasters.templates import forty_lines, full, ten_lines
from support.planted import make_series, random_walk


@parametrize_with_checks([ten_lines.last_three, forty_lines.TowardsTheLayer(), full.Reversion(), full.Reversion(0)])
def test_templates_keep_the_contract(forecaster, check):
    check(forecaster)


@pytest.mark.parametrize("module, most", [(ten_lines, 10), (forty_lines, 40)])
def test_templates_are_as_short_as_they_say(module, most):
    with open(module.__file__) as file:
        assert len(file.readlines()) <= most


@pytest.mark.parametrize("name", ["ten_lines:last_three", "forty_lines:TowardsTheLayer", "full:Reversion"])
def test_templates_are_found_by_their_path(name):
    make_forecaster(f"foresight.forecasters.templates.{name}")


def test_ten_lines_is_the_mean_of_the_last_three():
    series = make_series(random_walk(30, 5))
    np.testing.assert_allclose(ten_lines.last_three.fit(series).predict(9), series.values[:, 2:].mean(1), rtol=1e-6)


def test_forty_lines_goes_half_way_in_a_half_life():
    series = make_series(random_walk(30, 5))
    last = series.values[:, -1]
    mean = np.array([last[series.layer == layer].mean() for layer in series.layer])
    made = forty_lines.TowardsTheLayer(half_life=2)
    np.testing.assert_allclose(made.fit(series).predict(20), (last + mean) / 2, rtol=1e-5)
    with pytest.raises(ConfigError, match="half_life is 0"):
        forty_lines.TowardsTheLayer(0).fit(series)


def reverting(n, t, seed, phi=0.6):
    rng = np.random.default_rng(seed)
    away = np.zeros((n, t))
    for i in range(1, t):
        away[:, i] = phi * away[:, i - 1] + rng.normal(0, 0.2, n)
    return np.exp(rng.normal(0, 1, (n, 1)) + away)


def test_full_learns_the_coefficient():
    assert full.Reversion().fit(make_series(reverting(2000, 60, 0))).phi_ == pytest.approx(0.6, abs=0.05)


def test_full_learns_from_past_runs_and_says_when_it_cannot():
    series = make_series(reverting(50, 2, 1))
    assert full.Reversion().fit(series).fallback_.startswith("persistence: 2 snapshots")
    np.testing.assert_allclose(full.Reversion().fit(series).predict(50), series.values[:, -1], rtol=1e-4)
    taught = full.Reversion(1e6).pretrain([make_series(reverting(2000, 60, 2))]).fit(series)
    assert taught.fallback_ is None and taught.phi_ == pytest.approx(0.6, abs=0.05)


@pytest.mark.parametrize("bad", [np.zeros(3), np.zeros(2, np.float32), np.full(2, np.nan), np.array([-1.0, 0])])
def test_full_refuses_damaged_pretraining(bad):
    arrays, data = full.Reversion().pretrain([make_series(random_walk(30, 9))]).state()
    with pytest.raises(CheckpointError, match="'moments' is"):
        full.Reversion().load_state({**arrays, "pretrained.moments": bad}, data)
