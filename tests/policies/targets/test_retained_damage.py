import numpy as np
import pytest
from foresight.policies.targets.retained_damage import over_the_rest, parts

from foresight.common.errors import NonFiniteError, TrajectoryError
from foresight.forecasters import make_forecaster
from support.planted import make_series

RNG = np.random.default_rng(0)
BENEFIT = make_series(RNG.exponential(size=(30, 5)))
DAMAGE = RNG.normal(size=(30, 5)).astype(np.float32)


def test_parts_are_magnitudes_that_make_up_what_was_measured():
    benefit, harm, help_ = parts(BENEFIT, DAMAGE)
    assert benefit is BENEFIT
    np.testing.assert_array_equal(harm.values - help_.values, DAMAGE)
    assert not (harm.values * help_.values).any()
    np.testing.assert_array_equal(harm.steps, BENEFIT.steps)


@pytest.mark.parametrize("left", [1, 2, 3, 7, 100])
def test_persistence_is_exactly_the_re_measured_control(left):
    benefit, damage = over_the_rest(make_forecaster("persistence"), BENEFIT, DAMAGE, left)
    np.testing.assert_array_equal(benefit, BENEFIT.values[:, -1])
    np.testing.assert_array_equal(damage, DAMAGE[:, -1])


def test_a_linear_trend_is_followed_to_the_middle_of_the_rest():
    steps = np.arange(6) * 10
    rising = np.stack([1 + 0.1 * steps, 20 - 0.1 * steps]).astype(np.float32)
    series = make_series(np.ones((2, 6)), steps)
    _, damage = over_the_rest(make_forecaster("drift"), series, rising, left=40)
    middle = np.array([1 + 0.1 * 75, 20 - 0.1 * 75])  # horizons 10, 20, 30, 40 after step 50
    np.testing.assert_allclose(damage, middle, rtol=1e-3)


def test_sign_is_kept():
    _, damage = over_the_rest(make_forecaster("mean"), BENEFIT, -np.abs(DAMAGE), 10)
    assert (damage < 0).all()


def test_bad_inputs():
    with pytest.raises(TrajectoryError, match=r"damage has shape \(30, 4\); expected that of benefit, \(30, 5\)"):
        parts(BENEFIT, DAMAGE[:, 1:])
    with pytest.raises(NonFiniteError):
        parts(BENEFIT, np.full_like(DAMAGE, np.nan))
