"""The protocol: what goes in and comes out is checked, and state is safe to load."""

import json
import pickle
import struct
from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import save_file

from foresight.common.errors import CheckpointError, ConfigError, NonFiniteError, TrajectoryError
from foresight.forecasters import Forecaster, make_forecaster
from foresight.trajectory.series import Series
from support.forecasting import walk


class Half(Forecaster):
    """A forecaster as a third party would write it."""

    def _fit(self, series: Series) -> None:
        self.half_ = series.values[:, -1] / 2

    def _predict(self, horizon: int) -> np.ndarray:
        return self.half_


@pytest.fixture(params=["persistence", "smoothing", "ridge", "ridge-pretrained", "boosting-pretrained"])
def made(request):
    """A forecaster ready to fit, with pretraining (on models of other sizes) and without."""
    name, _, past = request.param.partition("-")
    forecaster = make_forecaster(name, **({"max_iter": 10} if name == "boosting" else {}))
    return forecaster.pretrain([walk(9, 7, 45), walk(11, 8, 30)]) if past else forecaster


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


@pytest.mark.parametrize("name", ("boosting", "drift", "persistence"))
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


def test_standard_errors_are_part_of_a_state(tmp_path):
    series = replace(walk(), stderr=np.random.default_rng(0).random((60, 12)))
    made = make_forecaster("local_level").fit(series)
    made.save(tmp_path / "state")
    again = make_forecaster("local_level").load(tmp_path / "state")
    np.testing.assert_array_equal(again.series_.stderr, series.stderr)
    np.testing.assert_array_equal(again.predict(30), made.predict(30))
    assert (made.predict(30) != make_forecaster("local_level").fit(walk()).predict(30)).any()


def test_a_plugin_of_before_that_has_quantiles_still_forecasts():
    class Sure(type(make_forecaster("persistence"))):
        def _predict_quantiles(self, horizon, levels):
            return np.repeat(self._predict(horizon)[:, None], len(levels), 1)

    np.testing.assert_array_equal(Sure().fit(walk()).predict(10), walk().values[:, -1])


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


def test_names_in_a_state_file_are_not_paths(state_file, tmp_path):
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
