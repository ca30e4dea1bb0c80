"""Records survive JSON, and what is damaged or of another shape is refused."""

import json
from dataclasses import dataclass, replace

import pytest

from foresight.common.errors import DataError
from foresight.common.files import write_json
from foresight.studies import provenance
from foresight.studies.compare.results import Cell, CurvePoint, LastForecast, Measures, Record, read_record
from foresight.studies.ledger import RESULT, SCHEMA
from foresight.studies.provenance import cell_key, environment, git_commit, plugin_digests


def test_the_key_is_everything_that_matters(monkeypatch):
    cell = Cell("score", "static", "ioi", training={"max_steps": 10})
    others = [
        replace(cell, seed=1),
        replace(cell, learning_rate=1e-3),
        replace(cell, training={"max_steps": 11}),
        replace(cell, history=("a",)),
        replace(cell, draw=1),
    ]
    key = cell_key(cell)
    assert len({key, *map(cell_key, others)}) == 6
    assert key == cell_key(Cell("score", "static", "ioi", training={"max_steps": 10}))
    monkeypatch.setattr(provenance, "SCIENCE", provenance.SCIENCE + 1)
    assert cell_key(cell) != key
    monkeypatch.undo()
    monkeypatch.setattr(provenance, "_versions", lambda: {"torch": "0.0"})
    assert cell_key(cell) != key


def test_the_environment_names_versions_code_and_commit():
    found = environment()
    assert {"python", "platform", "torch", "foresight-sft", "code", "science"} <= set(found)
    assert found.get("git") == git_commit()


def test_code_outside_the_package_has_a_digest():
    @dataclass
    class Own:
        pass

    assert list(plugin_digests([Own, Cell, int])) == [f"{Own.__module__}:{Own.__qualname__}"]


def test_records_survive_json(tmp_path):
    measures = Measures(
        {"a": 0.5},
        curve=(CurvePoint(0, 1.0, 0.5), CurvePoint(2, 0.5, 0.5, 0.1, 0.2)),
        overlap=0.25,
        schedule=((0, ("L0.head.1",)), (10, ("L1.mlp.0", "L1.mlp.1"))),
        realised=("L0.head.1",),
        forecast=LastForecast(4, 8, (0.5, 0.25)),
    )
    for found, error in ((measures, None), (None, "NonFiniteError: the loss is nan")):
        record = Record("k", Cell("tune", "full", "a", history=("x", "y")), environment(), found, error)
        write_json(tmp_path / RESULT, record.to_json())
        assert read_record(tmp_path) == record
    assert read_record(tmp_path / "missing") is None


@pytest.mark.parametrize(
    "change",
    [
        {"schema": SCHEMA + 1},
        {"extra": 1},
        {"cell": {"stage": "tune"}},
        {"measures": {"acuracy": {}}},
        {"measures": {"accuracy": {}, "curve": [{"step": 1}]}},
        {"measures": {"accuracy": {}, "schedule": [[1]]}},
        {"measures": 3},
    ],
)
def test_a_record_of_another_shape_is_refused(tmp_path, change):
    record = Record("k", Cell("tune", "full", "a"), environment(), Measures({"a": 0.5})).to_json()
    write_json(tmp_path / RESULT, record | change)
    with pytest.raises(DataError, match="run again"):
        read_record(tmp_path)


def test_a_torn_record_is_refused(tmp_path):
    (tmp_path / RESULT).write_text(json.dumps(Record("k", Cell("tune", "full", "a"), environment()).to_json())[:-20])
    with pytest.raises(DataError, match="not a result"):
        read_record(tmp_path)
