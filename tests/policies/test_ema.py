"""Policy `ema`: a moving average of snapshots that no scale and no single snapshot dominates."""

import numpy as np
import pytest

from foresight.common.errors import ConfigError, NonFiniteError
from foresight.masks.selection import select
from foresight.policies import View, make_policy
from foresight.training.config import ForesightConfig
from support.planted import make_table, random_walk, series_of

TABLE = make_table(layers=4, heads=4, blocks=4)
BUDGET = 24


def mask(values, decay, step=None, steps=None):
    series = series_of(TABLE, values, steps)
    step = int(series.steps[-1]) if step is None else step
    return make_policy("ema", ema_decay=decay).mask(View(TABLE, BUDGET, step, total_steps=1000, series=series))


def walk(t=8, seed=0):
    return random_walk(len(TABLE), t, seed, size=0.7)


@pytest.mark.parametrize("seed", range(5))
def test_between_reactive_and_the_mean(seed):
    values = walk(seed=seed)
    shares = values / values.sum(0)
    assert mask(values, 0.0) == select(values[:, -1], TABLE, BUDGET)
    assert mask(values, 1 - 1e-9) == select(shares.mean(1), TABLE, BUDGET)


def test_it_is_the_recursion_without_bias_towards_the_start():
    values, decay = walk(), 0.7
    shares, average, weight = values / values.sum(0), np.zeros(len(TABLE)), 0.0
    for at in range(values.shape[1]):
        average, weight = decay * average + (1 - decay) * shares[:, at], decay * weight + 1 - decay
        assert mask(values, decay, step=10 * at) == select(average / weight, TABLE, BUDGET)


def test_the_scale_of_a_snapshot_does_not_count():
    values = walk()
    scaled = values * 10.0 ** np.array([6, 3, 0, 0, -2, -3, -5, -6])
    assert mask(scaled, 0.9) == mask(values, 0.9)


def test_smoothing_sees_through_noise():
    rng = np.random.default_rng(0)
    truth = np.linspace(1, 3, len(TABLE))[rng.permutation(len(TABLE))]
    noisy = truth[:, None] * np.exp(rng.normal(0, 0.7, (len(TABLE), 20)))
    best = set(select(truth, TABLE, BUDGET).components)
    hits = {decay: len(best & set(mask(noisy, decay).components)) for decay in (0.0, 0.9)}
    assert hits[0.9] > hits[0.0]


def test_an_empty_snapshot_says_nothing():
    values = walk()
    values[:, -1] = 0
    assert mask(values, 0.5) == mask(values[:, :-1], 0.5)
    assert len(mask(np.zeros((len(TABLE), 3)), 0.5))  # and all of them are a tie, not an error


def test_huge_scores_do_not_overflow():
    assert mask(np.full((len(TABLE), 3), 3e38) * np.linspace(0.1, 1, len(TABLE))[:, None], 0.9) == select(
        np.arange(len(TABLE)), TABLE, BUDGET
    )
    with pytest.raises(NonFiniteError):
        mask(np.full((len(TABLE), 3), np.inf), 0.9)


@pytest.mark.parametrize("decay", [-0.1, 1.0, 2.0, float("nan")])
def test_a_decay_that_is_none(decay, tmp_path):
    with pytest.raises(ConfigError, match="ema_decay is .* expected a number in"):
        ForesightConfig(output_dir=str(tmp_path), ema_decay=decay)
