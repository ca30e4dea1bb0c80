"""Laws reproduce the paths that they are the laws of, and K lies where the rule says."""

import numpy as np
import pytest

from foresight.common.errors import ConfigError
from foresight.forecasters.single_weights.laws import displacement, linear, logarithmic
from foresight.forecasters.single_weights.reach import DRAWS, draw, reach

STEPS = [0, 3, 4, 10, 25]


def weights(law, noise=0.0, seed=0):
    """Three weights at STEPS: start + slope x law(step)."""
    rng = np.random.default_rng(seed)
    start, slope = rng.normal(size=(2, 3))
    path = start + np.outer(law(np.array(STEPS, float)), slope)
    return path + noise * rng.normal(size=path.shape), slope


@pytest.mark.parametrize(("law", "coefficients"), [(lambda t: t, linear), (np.log1p, logarithmic)])
def test_a_path_of_the_law_goes_on_exactly(law, coefficients):
    path, slope = weights(law)
    expected = slope * (law(25 + 40.0) - law(25.0))
    assert np.allclose(coefficients(STEPS, 40) @ path, expected)
    assert not np.allclose(coefficients(STEPS, 40) @ weights(lambda t: np.sqrt(t))[0], expected)


def test_linear_is_least_squares():
    path, _ = weights(lambda t: t, noise=1.0)
    slope = np.polyfit(STEPS, path, 1)[0]
    assert np.allclose(linear(STEPS, 7) @ path, 7 * slope)


@pytest.mark.parametrize(
    "coefficients", [linear(STEPS, 9), logarithmic(STEPS, 9), displacement(5), displacement(2, 3.5)]
)
def test_coefficients_sum_to_nothing_so_that_the_origin_is_free(coefficients):
    assert abs(coefficients.sum()) < 1e-12 and np.abs(coefficients).max() > 0


def test_displacement_is_a_multiple_of_the_way_so_far():
    path, _ = weights(np.sqrt)
    assert np.allclose(displacement(5, 2.5) @ path, 2.5 * (path[-1] - path[0]))
    assert np.allclose(linear([0, 10], 20), displacement(2, 2.0))


def test_no_horizon_no_shift():
    assert not linear(STEPS, 0).any() and not logarithmic(STEPS, 0).any() and not displacement(3, 0.0).any()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: displacement(1), "1 snapshots has no direction"),
        (lambda: linear([5], 3), "1 snapshots has no direction"),
        (lambda: linear([5, 5], 3), "steps from 0 on that ascend"),
        (lambda: logarithmic([-1, 5], 3), "steps from 0 on that ascend"),
        (lambda: linear([0, 5], -3), "horizon is -3"),
        (lambda: reach(1.0, 0.0), "sum to 0 over the steps seen"),
        (lambda: reach(-1.0, 1.0), "and -1 over those to come"),
        (lambda: reach(float("nan"), 1.0), "expected a finite"),
        (lambda: draw(1.0, 1.0, 0, 0), "0 draws of K"),
    ],
)
def test_bad_inputs_are_named(call, message):
    with pytest.raises(ConfigError, match=message):
        call()


@pytest.mark.parametrize("ahead", [0.04, 1.0, 9.0, 400.0])
def test_k_is_between_a_random_walk_and_a_straight_line(ahead):
    ends = sorted([ahead / 1.0, ahead**0.5])
    assert reach(ahead, 1.0) == reach(3 * ahead, 3.0) == pytest.approx(tuple(ends))
    many = draw(ahead, 1.0, seed=1, draws=4000)
    assert ends[0] <= many.min() and many.max() <= ends[1]
    assert many.mean() == pytest.approx(sum(ends) / 2, abs=0.02 * (ends[1] - ends[0]) + 1e-12)


def test_draws_follow_their_seed_alone():
    a, b, c = draw(9.0, 1.0, 5), draw(9.0, 1.0, 5), draw(9.0, 1.0, 6)
    assert np.array_equal(a, b) and len(a) == DRAWS and not np.isin(a, c).any()
