"""Recordings: what goes in comes out, whole or not at all, and a resumed run truncates."""

import json

import numpy as np
import pyarrow as pa
import pytest

from foresight.common.errors import NonFiniteError, TrajectoryError
from foresight.studies.track.recording import HEAD, Head, Metrics, Recording
from foresight.trajectory.series import METADATA
from support.planted import make_table

TABLE = make_table()
N, ROWS = len(TABLE), 6
CALIBRATION = {"ioi/attribution": {"head": 2.0, "mlp": 0.5}}


def head(**changes):
    components = {field: getattr(TABLE, field) for field in METADATA}
    known = dict(table=TABLE.hash, model="m", components=components, probes={"ioi": "p", "gender": "q"},
                 scorers=("attribution", "exact"), circuit=4, calibration=CALIBRATION, info={"seed": 1})  # fmt: skip
    return Head(**{**known, **changes})


def snapshot(step):
    rng = np.random.default_rng(step)
    keys = [f"{task}/{scorer}" for task in head().tasks for scorer in head().scorers]
    return {key: rng.normal(size=(ROWS, N)).astype(np.float32) for key in keys}


def edges(score=1.0):
    return pa.table({"task": ["ioi"], "source": ["input"], "destination": ["logits"], "role": ["logits"],
                     "score": [score]})  # fmt: skip


@pytest.fixture
def recording(tmp_path):
    made = Recording.create(tmp_path / "recording", head())
    made.append(0, snapshot(0), Metrics({"ioi": {"accuracy": 0.5, "loss": 1.0}}, 1.0, 2.0), edges())
    made.append(10, snapshot(10), Metrics(), stability=([0, 10], {"ioi": np.ones((3, 3))}))
    return made


def test_reads_back_what_was_written(recording):
    found = Recording.read(recording.path)
    assert found.steps == [0, 10] and found.head.info == {"seed": 1} and found.head.circuit == 4
    for field in METADATA:
        assert np.array_equal(found.head.components[field], getattr(TABLE, field))
    for step in found.steps:
        for key, values in snapshot(step).items():
            assert np.array_equal(found.samples(step, *key.split("/")), values)
    assert found.metrics(0) == Metrics({"ioi": {"accuracy": 0.5, "loss": 1.0}}, 1.0, 2.0)
    assert found.edges(0).to_pylist() == edges().to_pylist() and found.edges(10) is None
    circuits, drops = found.stability(10)
    assert circuits == [0, 10] and drops.keys() == {"ioi"} and (drops["ioi"] == 1).all() and found.stability(0) is None


def test_magnitudes_are_calibrated_absolute_means(recording):
    found = recording.magnitudes("ioi", "attribution")
    factor = np.where(TABLE.kind == "head", 2.0, 0.5)
    assert np.allclose(found[1], np.abs(snapshot(10)["ioi/attribution"].mean(0)) * factor, atol=1e-6)
    assert np.allclose(recording.magnitudes("ioi", "exact")[0], np.abs(snapshot(0)["ioi/exact"].mean(0)), atol=1e-6)


def test_truncates_to_a_step_and_continues(recording):
    (recording.weights(10) / "x").parent.mkdir(parents=True)
    again = Recording.read(recording.path)
    again.truncate(9)
    assert again.steps == [0] and not recording.weights(10).exists()
    assert not list(recording.path.glob("*/*10*"))
    again.append(10, snapshot(11), Metrics())
    assert np.array_equal(Recording.read(recording.path).samples(10, "ioi", "exact"), snapshot(11)["ioi/exact"])


def test_a_step_without_its_last_file_does_not_exist(recording):
    (recording.path / "metrics" / "00000010.json").unlink()
    (recording.path / "samples" / ".00000020.safetensors.part").write_bytes(b"half")
    found = Recording.read(recording.path)
    assert found.steps == [0]
    found.truncate(0)
    assert not list(recording.path.rglob("*.part")) and not list(recording.path.glob("samples/*10*"))
    found.append(10, snapshot(10), Metrics())


@pytest.mark.parametrize("step", [0, 5, 10])
def test_refuses_a_step_that_is_there_or_past(recording, step):
    before = {p: p.read_bytes() for p in recording.path.rglob("*") if p.is_file()}
    with pytest.raises(TrajectoryError, match=f"step {step} does not follow step 10"):
        recording.append(step, snapshot(1), Metrics())
    assert before == {p: p.read_bytes() for p in recording.path.rglob("*") if p.is_file()}


def test_refuses_samples_that_are_not_finite(recording):
    with pytest.raises(NonFiniteError, match=r"ioi/exact.*L0.head.0"):
        recording.append(20, snapshot(20) | {"ioi/exact": np.full((ROWS, N), np.nan)}, Metrics())
    assert Recording.read(recording.path).steps == [0, 10]


def test_refuses_a_folder_in_use(recording):
    with pytest.raises(TrajectoryError, match="already holds a recording"):
        Recording.create(recording.path, head())


@pytest.mark.parametrize("text", [None, "{", "[]", '{"version": 1}', '{"version": 99, "components": {}}'])
def test_names_a_head_that_cannot_be_read(recording, text):
    path = recording.path / HEAD
    path.unlink() if text is None else path.write_text(text)
    with pytest.raises(TrajectoryError, match=HEAD):
        Recording.read(recording.path)


def test_names_what_is_missing_or_damaged(recording):
    for step, task, scorer in ((7, "ioi", "exact"), (0, "ioi", "exactly"), (0, "sst2", "exact")):
        with pytest.raises(TrajectoryError, match=f"{step:08d}.safetensors is damaged or missing"):
            recording.samples(step, task, scorer)
    file = recording.path / "samples" / "00000010.safetensors"
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(TrajectoryError, match="00000010.safetensors is damaged"):
        recording.samples(10, "ioi", "exact")
    (recording.path / "metrics" / "00000010.json").write_text(json.dumps({"taks": {}}))
    with pytest.raises(TrajectoryError, match="00000010.json is damaged"):
        recording.metrics(10)
