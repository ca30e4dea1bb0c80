"""What every built-in forecaster must do beyond the conformance suite, and the suite itself."""

import numpy as np
import pytest

import foresight.forecasters as registry
from foresight.common.errors import ConfigError
from foresight.forecasters import make_forecaster
from foresight.forecasters.conformance import RULES
from support.forecasting import IRREGULAR, SMALL, fitted, small, walk
from support.planted import make_series, random_walk

SLOW_TO_MEASURE = ("damped_drift", "gaussian_process", "local_level", "recurrent", "stacking")


def test_no_forecaster_is_forgotten():
    assert set(SMALL) == set(registry.BUILT_IN)


@pytest.mark.parametrize("rule", [rule for rule in RULES if rule != "growth"])
@pytest.mark.parametrize("name", SMALL)
def test_built_in_forecasters_keep_the_contract(name, rule):
    RULES[rule](small(name))


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in SLOW_TO_MEASURE else name for name in SMALL]
)
def test_time_and_memory_grow_with_the_size(name):
    RULES["growth"](small(name))


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("name", ["ridge", "boosting"])
def test_pretrained_forecasters_keep_the_contract(name, rule):
    RULES[rule](small(name).pretrain([walk(9, 7, 45), walk(11, 8, 30)]))


@pytest.mark.parametrize("name", SMALL)
def test_snapshots_without_any_score_and_huge_ranges_are_harmless(name):
    values = random_walk(40, 9)
    values[:, [0, 4]] = 0
    values[:5] *= 1e25
    values[5:9] = 0
    forecaster = small(name)
    assert np.isfinite(forecaster.fit(make_series(values)).predict(20)).all()
    forecaster.fit(make_series(np.where(np.arange(9) == 8, 0, values)))  # all zero at the last
    assert np.isfinite(forecaster.predict(20)).all()


@pytest.mark.parametrize(
    "name", ["damped_drift", "local_level", "gaussian_process", "recurrent", "ridge", "boosting", "stacking"]
)
def test_a_single_snapshot_is_persisted_and_said_so(name):
    values = random_walk(40, 1)
    forecaster = fitted(name, values, 1)
    assert forecaster.fallback_.startswith("persistence")
    np.testing.assert_array_equal(forecaster.predict(30), make_series(values).values[:, 0])


# Series of every shape

NAMES = ("boosting", "drift", "mean", "persistence", "ridge", "smoothing")
CASES = [(name, False) for name in NAMES] + [(name, True) for name in ("ridge", "boosting")]


@pytest.fixture(params=CASES, ids=lambda case: case[0] + "-pretrained" * case[1])
def made(request):
    """A forecaster ready to fit, with pretraining (on models of other sizes) and without."""
    name, past = request.param
    forecaster = make_forecaster(name, **({"max_iter": 10} if name == "boosting" else {}))
    return forecaster.pretrain([walk(9, 7, 45), walk(11, 8, 30)]) if past else forecaster


def test_a_constant_series_stays_as_it_is(made):
    values = np.repeat(np.random.default_rng(0).random((60, 1)) + 0.1, 12, 1)
    prediction = made.fit(make_series(values)).predict(30)
    if not hasattr(made, "pretrained_"):  # past runs may well say that nothing stays
        np.testing.assert_allclose(prediction, values[:, 0], rtol=1e-4)


@pytest.mark.parametrize("values", [np.zeros((60, 8)), np.ones((60, 8)), np.eye(60, 8), np.full((60, 8), 1e-30)])
def test_degenerate_series(made, values):
    prediction = made.fit(make_series(values)).predict(10)
    assert np.isfinite(prediction).all()
    if values.min() == values.max():
        np.testing.assert_allclose(prediction, values[:, -1], rtol=1e-3)


def test_a_first_snapshot_without_any_score_is_harmless(made):
    values = random_walk(60, 8)
    values[:, 0] = 0  # movement at step 0
    assert np.corrcoef(made.fit(make_series(values)).predict(10), values[:, -1])[0, 1] > 0.8


def test_predictions_scale_with_the_scores(made):
    values = random_walk(60, 12)
    one = made.fit(make_series(values)).predict(20)
    many = made.fit(make_series(values * 1024)).predict(20)
    np.testing.assert_allclose(many, one * 1024, rtol=1e-4)


def test_only_the_cadence_of_steps_matters(made):
    values = random_walk(60, 12)
    one = made.fit(make_series(values, IRREGULAR)).predict(20)
    tenth = made.fit(make_series(values, IRREGULAR * 10)).predict(200)
    np.testing.assert_allclose(tenth, one, rtol=1e-4)


# Parameters


@pytest.mark.parametrize(
    "name, params",
    [
        ("smoothing", {"alpha": 0}),
        ("smoothing", {"alpha": 1.1}),
        ("smoothing", {"alpha": "0.3"}),
        ("drift", {"damping": 0}),
        ("drift", {"damping": float("nan")}),
        ("damped_drift", {"min_snapshots": 2}),
        ("ridge", {"alpha": -1}),
        ("ridge", {"max_rows": 10}),
        ("ridge", {"max_rows": 1e4}),
        ("ridge", {"min_snapshots": 2}),
        ("boosting", {"max_iter": 0}),
        ("boosting", {"learning_rate": 2}),
        ("boosting", {"max_leaf_nodes": True}),
        ("gaussian_process", {"max_rows": 50_000}),
        ("recurrent", {"hidden": 0}),
        ("stacking", {"members": ()}),
        ("stacking", {"members": "ridge"}),
    ],
)
def test_parameters_are_checked(name, params):
    (param,) = params
    with pytest.raises(ConfigError, match=f"{name!r}: {param} is .*; expected"):
        make_forecaster(name, **params)
    forecaster = make_forecaster(name).set_params(**params)
    assert forecaster.get_params()[param] is params[param], "__init__ and set_params only store"
    with pytest.raises(ConfigError, match=f"{name!r}: {param} is"):
        forecaster.fit(walk(2))


def test_a_member_that_is_not_a_forecaster_is_refused():
    with pytest.raises(ConfigError, match="3 is not a forecaster; expected a name"):
        make_forecaster("stacking", members=(3,))
