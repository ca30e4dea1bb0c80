"""What every forecaster has to do, whatever it believes."""

import json

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from foresight.errors import CheckpointError, ConfigError, NonFiniteError, TrajectoryError, UnknownNameError
from foresight.forecasters import Forecaster, forecaster_names, make_forecaster, register, registry
from foresight.series import Series
from planted import make_series, random_walk

NAMES = registry.BUILT_IN
POOLED = ("ridge", "boosting")
IRREGULAR = np.cumsum([0, 10, 10, 25, 5, 10, 40, 10, 10, 10, 3, 17])


def walk(t=12, seed=0, n=60, steps=None):
    return make_series(random_walk(n, t, seed), steps)


@pytest.fixture(params=NAMES)
def name(request):
    return request.param


CASES = [(name, False) for name in NAMES] + [(name, True) for name in POOLED]


@pytest.fixture(params=CASES, ids=lambda case: case[0] + "-pretrained" * case[1])
def made(request):
    """A forecaster ready to fit, with pretraining (on models of other sizes) and without."""
    name, past = request.param
    forecaster = make_forecaster(name, **({"max_iter": 10} if name == "boosting" else {}))
    return forecaster.pretrain([walk(9, 7, 45), walk(11, 8, 30)]) if past else forecaster


def test_predictions_are_scores(made):
    for series in (walk(), walk(12, steps=IRREGULAR), walk(1), walk(2), walk(3)):
        made.fit(series)
        for horizon in (1, 7, 100, 10_000):
            prediction = made.predict(horizon)
            assert prediction.shape == (60,) and prediction.dtype == np.float32
            assert np.isfinite(prediction).all() and (prediction >= 0).all()


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


def test_the_future_is_not_seen(made):
    past = random_walk(60, 12)
    poisoned = np.concatenate([past, np.full((60, 4), 1e12)], 1)
    cut = int(made.fit(make_series(past)).series_.steps[-1])
    clean = made.predict(30)
    np.testing.assert_array_equal(made.fit(make_series(poisoned).until(cut)).predict(30), clean)


def test_the_order_of_components_does_not_matter(made):
    series = walk(steps=IRREGULAR)
    order = np.random.default_rng(3).permutation(60)
    straight = made.fit(series).predict(30)
    permuted = made.fit(series.take(order)).predict(30)
    np.testing.assert_allclose(permuted, straight[order], rtol=2e-6)


def test_inputs_and_parameters_are_untouched(made):
    series = walk()
    before = {field: getattr(series, field).copy() for field in vars(series)}
    params = made.get_params()
    made.fit(series)
    made.predict(10)[:] = 0
    made.update(500, np.ones(60))
    assert made.get_params() == params
    for field, array in before.items():
        np.testing.assert_array_equal(getattr(series, field), array)


def test_the_same_input_gives_the_same_output(made):
    first = made.fit(walk()).predict(30)
    np.testing.assert_array_equal(made.predict(30), first)
    np.testing.assert_array_equal(made.fit(walk(9, 5)).fit(walk()).predict(30), first)


def test_update_is_fit_on_the_longer_series(made):
    whole = walk(12, steps=IRREGULAR)
    straight = made.fit(whole).predict(20)
    made.fit(whole.until(int(IRREGULAR[-3])))
    for i in (-2, -1):
        made.update(int(IRREGULAR[i]), whole.values[:, i])
    np.testing.assert_array_equal(made.predict(20), straight)
    np.testing.assert_array_equal(made.series_.values, whole.values)


def test_state_survives_safetensors_and_json(made, tmp_path):
    from safetensors.numpy import load_file, save_file

    made.fit(walk(steps=IRREGULAR))
    arrays, data = made.state()
    save_file(arrays, tmp_path / "state.safetensors")
    again = clone(made).load_state(load_file(tmp_path / "state.safetensors"), json.loads(json.dumps(data)))
    for forecaster in (made, again):
        forecaster.update(1000, np.ones(60))
    np.testing.assert_array_equal(again.predict(30), made.predict(30))
    assert again.fallback_ == made.fallback_


def test_state_before_fit(made):
    arrays, data = made.state()
    again = clone(made).load_state(arrays, data)
    with pytest.raises(NotFittedError):
        again.predict(1)
    np.testing.assert_array_equal(again.fit(walk()).predict(30), made.fit(walk()).predict(30))


def test_hostile_states_change_nothing(made):
    arrays, data = made.fit(walk()).state()
    expected = made.predict(30)
    nan = arrays["series.values"].copy()
    nan[0, 0] = np.nan
    cases = [
        ({}, data),
        ({**arrays, "extra": np.zeros(3)}, data),
        ({**arrays, "series.extra": np.zeros(3)}, data),
        ({**arrays, "pretrained.extra": np.zeros(3)}, data),
        ({**arrays, "series.values": arrays["series.values"][:3]}, data),
        ({**arrays, "series.values": nan}, data),
        ({**arrays, "series.values": arrays["series.values"].astype(np.float64)}, data),
        ({**arrays, "series.name": np.array([{"a": 1}], object)}, data),
        ({**arrays, "series.steps": arrays["series.steps"][::-1].copy()}, data),
        ({k: v for k, v in arrays.items() if k != "series.kind"}, data),
        (arrays, {}),
        (arrays, {**data, "extra": 1}),
        (arrays, {**data, "version": 99}),
        (arrays, {**data, "forecaster": "other"}),
        (arrays, {**data, "params": {"__class__": "os.system"}}),
        (arrays, {**data, "fitted": False}),
        (arrays, {**data, "fitted": "yes"}),
    ]
    for case in cases:
        with pytest.raises(CheckpointError):
            made.load_state(*case)
        np.testing.assert_array_equal(made.predict(30), expected)


def test_state_of_other_parameters_is_refused():
    arrays, data = make_forecaster("smoothing", alpha=0.3).fit(walk()).state()
    with pytest.raises(CheckpointError, match="0.3"):
        make_forecaster("smoothing", alpha=0.4).load_state(arrays, data)


def test_not_fitted(name):
    forecaster = make_forecaster(name)
    with pytest.raises(NotFittedError, match="fit"):
        forecaster.predict(1)
    with pytest.raises(NotFittedError, match="fit"):
        forecaster.update(1, np.ones(3))


@pytest.mark.parametrize("horizon", [0, -3, 1.5, True, None, "10"])
def test_bad_horizons(name, horizon):
    with pytest.raises(ConfigError, match="horizon is"):
        make_forecaster(name).fit(walk(2)).predict(horizon)


def test_bad_input(name):
    forecaster = make_forecaster(name)
    with pytest.raises(ConfigError, match="expected a Series"):
        forecaster.fit(np.ones((3, 3)))
    with pytest.raises(ConfigError, match="expected a Series"):
        forecaster.pretrain([np.ones((3, 3))])
    with pytest.raises(ConfigError, match="at least one"):
        forecaster.pretrain([])
    forecaster.fit(walk(3))
    for step, values, error in [
        (20, np.ones(60), TrajectoryError),
        (30, np.ones(59), TrajectoryError),
        (30, np.full(60, np.nan), NonFiniteError),
        (30, -np.ones(60), TrajectoryError),
    ]:
        with pytest.raises(error):
            forecaster.update(step, values)
    assert forecaster.series_.steps.tolist() == [0, 10, 20]


@pytest.mark.parametrize(
    "name, params",
    [
        ("smoothing", {"alpha": 0}),
        ("smoothing", {"alpha": 1.1}),
        ("smoothing", {"alpha": "0.3"}),
        ("drift", {"damping": 0}),
        ("drift", {"damping": float("nan")}),
        ("ridge", {"alpha": -1}),
        ("ridge", {"max_rows": 10}),
        ("ridge", {"max_rows": 1e4}),
        ("ridge", {"min_snapshots": 2}),
        ("boosting", {"max_iter": 0}),
        ("boosting", {"learning_rate": 2}),
        ("boosting", {"max_leaf_nodes": True}),
    ],
)
def test_parameters_are_checked(name, params):
    (param,) = params
    with pytest.raises(ConfigError, match=f"{name!r}: {param} is"):
        make_forecaster(name, **params)
    forecaster = make_forecaster(name).set_params(**params)
    assert forecaster.get_params()[param] is params[param], "__init__ and set_params only store"
    with pytest.raises(ConfigError, match=f"{name!r}: {param} is"):
        forecaster.fit(walk(2))


def test_clone_keeps_parameters_and_drops_what_was_learned(made):
    copy = clone(made.fit(walk()))
    assert copy.get_params() == made.get_params() and not [key for key in vars(copy) if key.endswith("_")]


# Registry


def test_names_and_classes_agree(name):
    assert make_forecaster(name).name == name and name in forecaster_names()


def test_unknown_names_and_parameters_suggest_the_closest():
    with pytest.raises(UnknownNameError, match="did you mean 'ridge'"):
        make_forecaster("rigde")
    with pytest.raises(ConfigError, match="no parameter 'alhpa' .did you mean 'alpha'"):
        make_forecaster("ridge", alhpa=1)
    with pytest.raises(ConfigError, match="it has: none"):
        make_forecaster("persistence", alpha=1)


class Half(Forecaster):
    """A forecaster as a third party would write it."""

    def _fit(self, series: Series) -> None:
        self.half_ = series.values[:, -1] / 2

    def _predict(self, horizon: int) -> np.ndarray:
        return self.half_


@pytest.fixture
def clean_registry(monkeypatch):
    monkeypatch.setattr(registry, "_registered", dict(registry._registered))


def test_registering_ones_own(clean_registry):
    register("half")(Half)
    forecaster = make_forecaster("half").fit(walk())
    np.testing.assert_allclose(forecaster.predict(5), walk().values[:, -1] / 2)
    arrays, data = forecaster.state()
    np.testing.assert_array_equal(make_forecaster("half").load_state(arrays, data).predict(5), forecaster.predict(5))
    register("half")(Half)  # the same class again is harmless
    for taken in ("half", "ridge"):
        with pytest.raises(ConfigError, match="exists already"):
            register(taken)(type("Other", (Half,), {}))
    with pytest.raises(ConfigError, match="not a subclass"):
        register("function")(lambda series: series)


def test_entry_points_are_loaded_only_when_named(clean_registry, monkeypatch):
    loaded = []

    class Point:
        name = "plugin"

        def load(self):
            loaded.append(self.name)
            return Half

    monkeypatch.setattr(registry, "entry_points", lambda group: [Point()] if group == "foresight.forecasters" else [])
    assert "plugin" in forecaster_names()
    make_forecaster("persistence")
    assert loaded == []
    assert isinstance(make_forecaster("plugin"), Half) and loaded == ["plugin"]


@pytest.mark.parametrize("output, error", [(np.ones(3), ConfigError), (np.full(60, np.nan), NonFiniteError)])
def test_what_a_forecaster_returns_is_checked(output, error):
    class Broken(Half):
        def _predict(self, horizon):
            return output

    with pytest.raises(error, match="predicted"):
        Broken().fit(walk()).predict(1)


def test_negative_predictions_become_zero():
    class Negative(Half):
        def _predict(self, horizon):
            return -self.half_

    assert (Negative().fit(walk()).predict(1) == 0).all()
