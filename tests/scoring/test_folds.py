"""Scores with their noise: what is known of single examples, pooled over snapshots, and what a new circuit is worth."""

from __future__ import annotations

import numpy as np
import pytest

from foresight.scoring.folds import FOLDS, MEMORY, Folds
from foresight.trajectory.metrics import top_k

N, K = 200, 10


def choose(magnitudes: np.ndarray) -> np.ndarray:
    return top_k(magnitudes, K)


def samples(truth: np.ndarray, rows: int, noise: float, seed: int) -> np.ndarray:
    return truth + noise * np.random.default_rng(seed).standard_normal((rows, len(truth)))


def circuit(at: int, size: float = 1.0) -> np.ndarray:
    truth = np.zeros(N)
    truth[at : at + K] = size
    return truth


def folds(*given) -> Folds:
    found = Folds.of(samples(*given))
    assert found is not None
    return found


def test_mean_and_error_are_those_of_the_samples():
    found = samples(circuit(0), 400, 2.0, 0)
    scores = Folds.of(found).scores()
    assert np.allclose(scores.values, found.mean(0), atol=1e-6)
    assert np.sqrt((scores.stderr**2).mean()) == pytest.approx(2.0 / np.sqrt(400), rel=0.05)


def test_too_few_examples_tell_nothing():
    assert Folds.of(np.zeros((FOLDS - 1, N))) is None


def test_pooling_what_has_not_moved_is_averaging():
    first, second = folds(circuit(0), 40, 1.0, 1), folds(circuit(0), 80, 1.0, 2)
    pooled = first.pooled(second)
    assert np.allclose(pooled.mean, (first.mean + 2 * second.mean) / 3, atol=0.01)
    assert pooled.weights.sum() == pytest.approx(120, rel=0.15)
    assert pooled.variance.mean() == pytest.approx(1 / 120, rel=0.2)


def test_what_has_moved_is_forgotten():
    before, now = folds(np.full(N, 3.0), 800, 1.0, 1), folds(np.full(N, -3.0), 40, 1.0, 2)
    pooled = before.pooled(now)
    assert pooled.weights.sum() < 45 and np.allclose(pooled.mean, now.mean, atol=0.2)


def test_many_snapshots_without_drift_are_remembered_up_to_a_limit():
    pool = folds(circuit(0), 8, 1.0, 0)
    for seed in range(1, 40):
        pool = pool.pooled(folds(circuit(0), 8, 1.0, seed))
    assert 30 < pool.weights.sum() <= 8 * (1 + MEMORY) and pool.agreement(choose) > 0.9


def test_agreement_tells_a_clear_map_from_noise():
    assert folds(circuit(0), 64, 0.5, 0).agreement(choose) == 1
    assert folds(np.zeros(N), 64, 0.5, 0).agreement(choose) < 0.25


def test_another_circuit_is_worth_more_only_where_scores_have_moved():
    held = tuple(range(K))
    moved, bound = folds(circuit(50), 64, 1.0, 0).gain(choose, held)
    assert moved > 0.5 and bound > 0
    same, bound = folds(circuit(0), 64, 1.0, 0).gain(choose, held)
    assert same <= 0 and bound <= 0


def test_noise_is_worth_nothing():
    """Of runs whose scores are noise, at most as many as the error of the interval allows would change their mask."""
    changed = [folds(np.zeros(N), 64, 1.0, seed).gain(choose, range(K))[1] > 0 for seed in range(200)]
    assert np.mean(changed) < 0.12


def test_negative_scores_are_magnitudes_too():
    assert folds(circuit(50, -1.0), 64, 1.0, 0).gain(choose, range(K))[1] > 0


def test_errors_that_are_known_are_put_right():
    both = folds(circuit(50) + circuit(0, 0.5), 640, 1.0, 0)
    assert both.gain(choose, range(K))[1] > 0 >= both.shifted(-circuit(50)).gain(choose, range(K))[1]


def test_state_is_all_there_is():
    found = folds(circuit(0), 64, 1.0, 0)
    again = Folds.from_state(found.state())
    assert np.array_equal(again.means, found.means) and np.array_equal(again.weights, found.weights)
    assert Folds.from_state({}) is None
