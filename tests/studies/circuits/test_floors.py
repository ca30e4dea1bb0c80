import numpy as np
import pytest

from foresight.common.errors import ConfigError, NonFiniteError
from foresight.studies.circuits.distance import PARTS, distance_statistic
from foresight.studies.circuits.floors import (
    bootstrap,
    half_weights,
    higher,
    interval,
    measure,
    measure_distance,
    resampled_means,
    resampling_weights,
    split_half_floor,
)
from foresight.trajectory.distances import circuit_distances, distance_groups
from support.circuit_cases import noisy

LAYERS, HEADS, BLOCKS = 4, 3, 5
LAYER = np.repeat(np.arange(LAYERS), HEADS + BLOCKS)
KIND = np.tile(["head"] * HEADS + ["mlp"] * BLOCKS, LAYERS)


def gap(a, b):
    """A distance of one number: how far the first components' means lie apart."""
    return np.abs(a - b)[:, 0]


def measured_distance(a, b, k, floor=None):
    """ "all" and each kind -> "jaccard" and "wasserstein" -> `Measured`."""
    statistic = distance_statistic(k, LAYER, KIND)
    floor = floor or higher(split_half_floor(statistic, a), split_half_floor(statistic, b))
    numbers = iter(measure_distance(statistic, a, b, floor))
    return {group: {part: next(numbers) for part in PARTS} for group in distance_groups(KIND)}


def beyond_floor(measured):
    return measured.value > measured.floor_high


def bump(layer: int) -> np.ndarray:
    """A circuit of all components of one layer."""
    return np.where(layer == LAYER, 5.0, 0.0)


def test_examples_that_agree_have_no_floor_and_no_interval():
    samples = np.tile(np.arange(6.0), (9, 1))
    floor = split_half_floor(lambda a, b: np.abs(a - b), samples)
    np.testing.assert_allclose(floor, 0, atol=1e-14)
    np.testing.assert_allclose(bootstrap(lambda a: a, samples), [np.arange(6.0)] * 2)


@pytest.mark.parametrize("examples", [16, 17, 64])
def test_halves_differ_with_twice_the_variance_of_two_whole_probes(examples):
    """Var(mean of half - mean of half) = 2 sigma^2 / (n / 2) = 4 sigma^2 / n; of two whole probes 2 sigma^2 / n."""
    samples = np.random.default_rng(0).normal(size=(examples, 400))
    mean, high = split_half_floor(lambda a, b: np.abs(a - b), samples)
    sigma = 2 / np.sqrt(2 * (examples // 2))
    assert np.mean(mean) == pytest.approx(sigma * np.sqrt(2 / np.pi), rel=0.05)
    assert np.mean(high) == pytest.approx(1.96 * sigma, rel=0.06)


def test_halves_are_disjoint_and_equal():
    for n in (2, 7, 10):
        first, second = half_weights(n)
        assert not (first * second).any()
        np.testing.assert_allclose([first.sum(1), second.sum(1)], 1)
        assert set(np.unique(first)) == {0, 1 / (n // 2)}
        assert (first + second > 0).any(0).all()  # nobody sits out every time
    np.testing.assert_allclose(resampling_weights(7).sum(1), 1)


def test_where_nothing_moves_the_distance_is_within_the_floor():
    truth = np.random.default_rng(1).random(len(LAYER))
    beyond = []
    for seed in range(20):
        a, b = noisy(truth, seed=2 * seed), noisy(truth, seed=2 * seed + 1)
        statistic = distance_statistic(8, LAYER, KIND)
        mean, high = split_half_floor(statistic, a)
        value = statistic(a.mean(0)[None], b.mean(0)[None])[0]
        assert mean[1] > 0
        beyond.append(value > high)
    assert np.mean(beyond) <= 0.05
    same = [m for parts in measured_distance(a, a, 8).values() for m in parts.values()]
    assert {m.value for m in same} == {0.0} and not any(map(beyond_floor, same))


def test_a_circuit_that_migrates_one_layer_up():
    """All score moves from layer 1 to layer 2 of 4: Wasserstein 1/4, and no component is in both circuits."""
    a, b = noisy(bump(1), noise=0.01), noisy(bump(2), noise=0.01, seed=1)
    found = measured_distance(a, b, HEADS + BLOCKS)
    assert list(found) == ["all", "head", "mlp"]
    for parts in found.values():
        assert parts["jaccard"].value == 1 and parts["jaccard"].floor_high == 0
        assert parts["wasserstein"].value == pytest.approx(1 / LAYERS, rel=0.01)
        assert parts["wasserstein"].low <= parts["wasserstein"].value <= parts["wasserstein"].high
        assert all(map(beyond_floor, parts.values()))


def test_heads_that_move_while_mlps_stay():
    truth = bump(0)
    moved = np.where(KIND == "head", bump(3), truth)
    found = measured_distance(noisy(truth, noise=0.01), noisy(moved, noise=0.01), 8)
    assert found["head"]["wasserstein"].value == pytest.approx(3 / 4, rel=0.01)
    assert found["mlp"]["wasserstein"].value == pytest.approx(0, abs=1e-9)  # the same noise at both steps
    assert beyond_floor(found["head"]["jaccard"]) and not beyond_floor(found["mlp"]["jaccard"])


def test_distance_of_samples_is_that_of_their_means():
    a, b = noisy(bump(1)), noisy(bump(2), seed=1)
    found = measured_distance(a, b, 5)
    expected = circuit_distances(a.mean(0)[None], b.mean(0)[None], 5, LAYER, KIND)[0]
    for group, distances in zip(distance_groups(KIND), expected, strict=True):
        assert [found[group][part].value for part in ("jaccard", "wasserstein")] == distances.tolist()


def test_a_floor_can_be_given():
    a, b = noisy(bump(1)), noisy(bump(2), seed=1)
    entries = np.arange(6.0)
    found = [m for parts in measured_distance(a, b, 8, (entries, entries + 1)).values() for m in parts.values()]
    assert [(m.floor, m.floor_high) for m in found] == [(i, i + 1) for i in range(6)]


def test_samples_that_share_examples_are_resampled_together():
    a = noisy(np.zeros(3), seed=3)
    low, high = bootstrap(lambda x, y: y - x, a, a + 5)
    np.testing.assert_allclose([low, high], 5)


def test_the_interval_of_a_mean_covers_it():
    inside = []
    for seed in range(60):
        samples = np.random.default_rng(seed).normal(size=(12, 10))
        low, high = bootstrap(lambda means: means, samples)
        inside.append((low < 0) & (high > 0))
    assert 0.92 < np.mean(inside) < 0.98


def test_equal_samples_give_equal_results():
    a, b = noisy(bump(1)), noisy(bump(2), seed=1)
    floor = split_half_floor(gap, a)
    assert measure_distance(gap, a, b, floor) == measure_distance(gap, a, b, floor)
    assert (resampling_weights(9, seed=1) != resampling_weights(9, seed=2)).any()
    np.testing.assert_allclose(resampled_means(a).mean(0), a.mean(0), atol=0.02)


def test_a_level_has_the_difference_of_halves_as_floor():
    samples = noisy([2.0, 3.0], examples=40)
    first, second = measure(lambda means: means, samples)
    assert first.value == samples.mean(0)[0] and second.value == samples.mean(0)[1]
    np.testing.assert_allclose(first.floor, split_half_floor(gap, samples)[0])
    assert first.low < first.value < first.high


def test_undefined_replicates_are_left_out_until_they_are_too_many():
    replicates = np.tile(np.linspace(0, 1, 100)[:, None], (1, 3))
    replicates[:3, 1] = [np.nan, np.inf, -np.inf]
    replicates[:6, 2] = np.nan
    low, high = interval(replicates, 50)
    assert np.isfinite(low[:2]).all() and np.isfinite(high[:2]).all()
    assert low[0] < 0.03 < low[1] < high[1] <= 1
    assert np.isnan([low[2], high[2]]).all()


@pytest.mark.parametrize(
    ("samples", "error", "message"),
    [
        (np.ones((1, 3)), ConfigError, "there are 1 examples to resample; expected at least two"),
        (np.array([[1.0], [np.nan]]), NonFiniteError, "NaN or infinite"),
    ],
)
def test_bad_samples_are_refused(samples, error, message):
    with pytest.raises(error, match=message):
        bootstrap(lambda means: means, samples)
