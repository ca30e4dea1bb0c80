"""Forecasts from a path see what lies up to the cutoff, and are right where the path keeps to their law."""

import weakref

import numpy as np
import pytest

from foresight.common.errors import ConfigError, UnknownNameError
from foresight.forecasters.single_weights.laws import linear
from foresight.forecasters.single_weights.path import METHODS, combine, forecast
from foresight.forecasters.single_weights.reach import draw
from support.weight_cases import PLACE, Known, Path, bits, same, setting

_, TABLE, _ = setting()
B = np.random.default_rng(0).normal(size=len(TABLE))
STEPS = (0, 10, 20, 30, 40, 80)
RATES = np.linspace(1e-3, 1e-4, 100)


def ask(name, law, cutoff=30, horizon=50, known_until=None, start=0.0, **settings):
    """The forecast of |b u| for u = law(step), with a base model at u = start."""
    model, table, _ = setting(start)
    before = bits(model)
    path = Path({step: law(step) for step in STEPS}, cutoff if known_until is None else known_until)
    given = {"learning_rates": RATES, **settings}
    found = forecast(name, model, table, path, None, Known(lambda u: B * u), cutoff, horizon, **given)
    assert same(before, model) and found.dtype == np.float64 and found.shape == (len(table),)
    return found, path


@pytest.mark.parametrize(
    ("name", "law"),
    [("linear_weights", lambda t: 0.02 * t + 1), ("logarithmic_weights", lambda t: 0.5 * np.log1p(t) + 1)],
)
@pytest.mark.parametrize("cutoff", [30, 35])
def test_a_path_that_keeps_to_the_law_is_foreseen(name, law, cutoff):
    found, path = ask(name, law, cutoff=cutoff, start=2.0)
    assert np.allclose(found, np.abs(B * (2.0 + law(cutoff + 50))), rtol=1e-5)
    assert max(path.read) == 30


@pytest.mark.parametrize("name", ["taylor", "displaced"])
def test_displacement_goes_on_by_what_the_learning_rates_allow(name):
    found, path = ask(name, lambda t: 0.01 * t, seed=3)
    mean_k = draw(RATES[30:80].sum(), RATES[:30].sum(), 3).mean()
    assert np.allclose(found, np.abs(B * (0.3 + 0.3 * mean_k)), atol=2e-3)
    assert set(path.read) == {0, 30}  # what lies between does not matter, and is not read
    other, _ = ask(name, lambda t: 0.01 * t, seed=4)
    assert not np.allclose(found, other, rtol=1e-3)


@pytest.mark.parametrize("name", METHODS)
def test_the_future_is_not_read(name):
    """The path refuses to be read after the cutoff, and rates after the target are poisoned."""
    poisoned = np.where(np.arange(100) < 80, RATES, np.nan)
    one, _ = ask(name, np.sqrt, learning_rates=poisoned)
    other, _ = ask(name, lambda t: np.sqrt(t) if t <= 30 else 1e9)
    assert np.array_equal(one, other) and np.isfinite(one).all()


def test_holds_one_snapshot_at_a_time():
    alive = weakref.WeakSet()

    class Counted(Path):
        def change(self, step):
            assert len(alive) <= 2  # the sum, and of the snapshot before the module that was read last
            found = super().change(step)
            alive.update(found.values())
            return found

    path = Counted({step: float(step) for step in range(20)}, known_until=19)
    shift = combine(path, path.steps, linear(path.steps, 5))
    assert shift[PLACE][0, 0].item() == pytest.approx(5) and path.read == path.steps


@pytest.mark.parametrize("name", METHODS)
def test_weights_that_do_not_move_keep_their_scores(name):
    found, _ = ask(name, lambda t: 0.7)
    assert np.allclose(found, np.abs(0.7 * B), rtol=1e-4)


def test_calibration_multiplies():
    factors = np.linspace(1, 2, len(TABLE))
    plain, _ = ask("displaced", np.sqrt)
    scaled, _ = ask("displaced", np.sqrt, calibration=factors)
    assert np.allclose(scaled, factors * plain)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        (dict(name="tailor"), UnknownNameError, "did you mean 'taylor'"),
        (dict(cutoff=9), ConfigError, r"steps \[0\] up to the cutoff 9"),
        (dict(horizon=0), ConfigError, "horizon is 0"),
        (dict(learning_rates=RATES[:70]), ConfigError, "70 learning rates for a forecast of step 80"),
        (dict(learning_rates=np.zeros(100)), ConfigError, "sum to 0 over the steps seen"),
    ],
)
def test_bad_inputs_are_named(changes, error, message):
    with pytest.raises(error, match=message):
        ask(**{"name": "taylor", "law": np.sqrt, **changes})
