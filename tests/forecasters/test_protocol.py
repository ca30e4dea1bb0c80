"""What the simple forecasters have in common beyond the conformance suite, and how forecasters are found."""

import json
import pickle
import struct
import sys

import numpy as np
import pytest
from safetensors.numpy import save_file

from foresight.common import plugins
from foresight.common.errors import CheckpointError, ConfigError, NonFiniteError, TrajectoryError, UnknownNameError
from foresight.forecasters import Forecaster, forecaster_names, make_forecaster, register, registry
from foresight.trajectory.series import Series
from support.planted import make_series, random_walk

NAMES = ("boosting", "drift", "mean", "persistence", "ridge", "smoothing")
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
        (arrays, {**data, "pretrained": not data["pretrained"]}),
        (arrays, None),
    ]
    for case in cases:
        with pytest.raises(CheckpointError):
            made.load_state(*case)
        np.testing.assert_array_equal(made.predict(30), expected)


def test_state_of_other_parameters_is_refused():
    arrays, data = make_forecaster("smoothing", alpha=0.3).fit(walk()).state()
    with pytest.raises(CheckpointError, match="0.3"):
        make_forecaster("smoothing", alpha=0.4).load_state(arrays, data)


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


# Registry


@pytest.mark.parametrize("name", registry.BUILT_IN)
def test_names_and_classes_agree(name):
    assert make_forecaster(name).name == name and name in forecaster_names()
    assert registry.origin(name) == "built-in"


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
    monkeypatch.setattr(registry.REGISTRY, "_registered", dict(registry.REGISTRY._registered))


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
        dist = None
        value = "plugin_module:Half"

        def load(self):
            loaded.append(self.name)
            return Half

    points = [Point()]
    monkeypatch.setattr(plugins, "entry_points", lambda group: points if group == "foresight.forecasters" else [])
    assert "plugin" in forecaster_names()
    make_forecaster("persistence")
    assert loaded == []
    assert registry.origin("plugin") == "plugin_module:Half" and loaded == []
    assert isinstance(make_forecaster("plugin"), Half) and loaded == ["plugin"]


@pytest.mark.parametrize("broken", [lambda: 1 / 0, lambda: print])
def test_packages_that_offer_no_forecaster_are_named(clean_registry, monkeypatch, broken):
    class Point:
        name, dist, value = "plugin", None, "plugin_module:Half"
        load = staticmethod(broken)

    monkeypatch.setattr(plugins, "entry_points", lambda group: [Point()])
    with pytest.raises(ConfigError, match="'plugin'.*(plugin_module:Half cannot be imported|expected a subclass)"):
        make_forecaster("plugin")
    monkeypatch.setattr(plugins, "entry_points", lambda group: [Point(), Point()])
    with pytest.raises(ConfigError, match="offered by plugin_module:Half and plugin_module:Half; uninstall one"):
        make_forecaster("plugin")


MINE = """
import sys
from foresight.forecasters import Forecaster, from_function
sys.imported_mine = True
class Mine(Forecaster):
    def __init__(self, share=0.5):
        self.share = share
    def _fit(self, series):
        pass
    def _predict(self, horizon):
        return self.share * self.series_.values[:, -1]
class Outer:
    Inner = Mine
def last(series, horizon):
    return series.values[:, -1]
mine = from_function(last)
number = 3
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    """The name of a module that lies in the working folder; whether it is imported is `sys.imported_mine`."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "imported_mine", False, raising=False)
    monkeypatch.chdir(tmp_path)
    name = f"mine_{tmp_path.name}".replace("-", "_")
    (tmp_path / f"{name}.py").write_text(MINE)
    yield name
    sys.modules.pop(name, None)


def test_a_class_is_found_by_its_module(module):
    made = make_forecaster(f"{module}:Mine", share=0.25).fit(walk())
    np.testing.assert_allclose(made.predict(1), walk().values[:, -1] / 4)
    assert made.name == f"{module}:Mine" and registry.origin(made.name) == module
    assert type(make_forecaster(f"{module}:Outer.Inner")) is type(made)
    np.testing.assert_array_equal(make_forecaster(f"{module}:mine").fit(walk()).predict(1), walk().values[:, -1])
    with pytest.raises(ConfigError, match="no parameter 'shaer' .did you mean 'share'"):
        make_forecaster(f"{module}:Mine", shaer=1)


def test_modules_without_it_are_explained(module, tmp_path):
    (tmp_path / f"{module}_broken.py").write_text("1 / 0")
    for path, problem in {
        f"{module}:Mien": r"no 'Mien' .did you mean 'Mine'",
        f"{module}:number": "is 3; expected a subclass",
        f"{module}:last": "from_function",
        "absent_module:Mine": "importing 'absent_module' failed",
        f"{module}_broken:Mine": "ZeroDivisionError",
        f"{module}:": "expected module:Class",
        f"../{module}:Mine": "expected module:Class",
        f"{module}:Mine()": "expected module:Class",
    }.items():
        with pytest.raises(ConfigError, match=problem):
            make_forecaster(path)


def test_nothing_installed_is_shadowed_by_the_working_folder(module, tmp_path):
    (tmp_path / "colorsys.py").write_text("raise SystemExit")
    make_forecaster(f"{module}:Mine")
    with pytest.raises(ConfigError, match="has no 'Mine'"):
        make_forecaster("colorsys:Mine")


def test_a_state_names_a_module_only_to_be_compared(module):
    arrays, data = make_forecaster("persistence").fit(walk()).state()
    foreign = {**data, "forecaster": f"{module}:Mine", "params": {"share": 0.5}}
    with pytest.raises(CheckpointError, match=f"{module}:Mine"):
        make_forecaster("persistence").load_state(arrays, foreign)
    assert not sys.imported_mine
    own = make_forecaster(f"{module}:Mine")  # the user names it, so it is imported, and the state fits
    assert sys.imported_mine
    np.testing.assert_allclose(own.load_state(arrays, foreign).predict(1), walk().values[:, -1] / 2)


# State files


@pytest.fixture
def state_file(tmp_path):
    made = make_forecaster("ridge").pretrain([walk(9, 7, 45)]).fit(walk())
    made.save(tmp_path / "state.safetensors")
    return made, tmp_path / "state.safetensors"


def test_state_files_round_trip(state_file):
    made, path = state_file
    np.testing.assert_array_equal(make_forecaster("ridge").load(path).predict(30), made.predict(30))
    with pytest.raises(CheckpointError, match="'alpha': 0.5"):
        make_forecaster("ridge", alpha=0.5).load(path)


class Bomb:
    def __reduce__(self):
        return print, ("pickle was executed",)


def header(text, rest=b""):
    return struct.pack("<Q", len(text)) + text + rest


BAD_FILES = {
    "pickle": pickle.dumps(Bomb()),
    "empty": b"",
    "text": b"hello",
    "npz": b"PK\x03\x04" + bytes(100),
    "header beyond the file": struct.pack("<Q", 2**60),
    "no metadata": header(b"{}"),
    "tensor beyond the file": header(
        b'{"series.values":{"dtype":"F32","shape":[1000000000,1000000],"data_offsets":[0,4000000000000000]}}'
    ),
    "shape that overflows": header(
        b'{"series.values":{"dtype":"F32","shape":[4294967296,4294967296,4],"data_offsets":[0,0]}}'
    ),
    "JSON part that is no JSON": header(b'{"__metadata__":{"state":"{"}}'),
    "JSON part too deep": header(b'{"__metadata__":{"state":"' + b"[" * 100_000 + b'"}}'),
}


@pytest.mark.parametrize("text", BAD_FILES.values(), ids=BAD_FILES)
def test_bad_state_files_are_refused(state_file, tmp_path, capsys, text):
    made, _ = state_file
    expected = made.predict(30)
    (tmp_path / "bad").write_bytes(text)
    with pytest.raises(CheckpointError, match="bad is not a forecaster state"):
        made.load(tmp_path / "bad")
    np.testing.assert_array_equal(made.predict(30), expected)
    assert "executed" not in capsys.readouterr().out


def test_state_files_too_large_or_absent_are_refused_unread(state_file, tmp_path):
    made, path = state_file
    with path.open("r+b") as file:
        file.truncate(2**40)  # sparse
    with pytest.raises(CheckpointError, match="has 1,099,511,627,776 bytes"):
        made.load(path)
    for absent in (tmp_path, tmp_path / "absent"):
        with pytest.raises(CheckpointError, match="is not a forecaster state"):
            made.load(absent)


def test_names_in_a_state_file_are_no_paths(state_file, tmp_path):
    made, path = state_file
    arrays, data = made.state()
    inside = set(tmp_path.rglob("*"))
    save_file({**arrays, "../../outside": np.zeros(3)}, path, {"state": json.dumps(data)})
    with pytest.raises(CheckpointError, match="unknown entry '../../outside'"):
        made.load(path)
    assert set(tmp_path.rglob("*")) == inside


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
