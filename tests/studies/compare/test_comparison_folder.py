"""A folder of results, written, read back, and put together with others."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from foresight.common.errors import DataError
from foresight.common.files import write_json
from foresight.common.sealed import read_sealed, write_sealed
from foresight.studies.compare.measures import MEASURES
from foresight.studies.compare.study import RESULTS, read_comparisons, recorded_settings, write_results
from foresight.studies.compare.tables import SCHEMAS
from foresight.studies.ledger import RESULT
from foresight.studies.provenance import environment, git_commit
from foresight.studies.runner import RUNS
from support.synthetic_runs import comparison, names, settings

RECORDED = Path(__file__).parents[3] / "eval" / "results" / "compare"


def write(folder: Path, config, records) -> object:
    for record in records:
        write_json(folder / RUNS / record.key / RESULT, record.to_json())
    return write_results(folder, config, records)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder, config = tmp_path_factory.mktemp("finished"), settings()
    records = comparison(config, fails={"prior": "NonFiniteError: the loss is nan"})
    return folder, config, records, write(folder, config, records)


def test_what_was_written_is_read(finished):
    folder, config, records, summary = finished
    assert read_comparisons([folder])[:3] == (config, summary, records)


def test_results_say_what_they_come_from(finished):
    folder, config, records, summary = finished
    data = read_sealed(folder / RESULTS)
    assert data["schema"] == 2 and data["sentence"] == summary.verdict.sentence
    assert data["environment"].items() >= environment().items()
    assert data["environment"].get("git") == git_commit()
    assert data["config"]["target_tasks"] == config.target_tasks and data["records"] == [r.key for r in records]


def test_arms_that_no_longer_exist_are_read_as_labels(finished, tmp_path):
    folder, config, records, _ = finished
    gone = {"name": "by trials", "like": "static", "label": "By trials", "settings": {"head_share": "trials"}}
    shutil.copytree(folder, tmp_path / "copy")
    data = read_sealed(folder / RESULTS)
    data["config"]["arms"] += ["ema", "foresight:forest", gone, {"name": "mine", "like": "layers", "draws": 1}]
    write_sealed(tmp_path / "copy" / RESULTS, data)
    arms = read_comparisons([tmp_path / "copy"])[0].chosen
    labels = {name: arms[name].label for name in ("ema", "foresight:forest", "by trials", "mine")}
    assert list(labels.values()) == ["EMA", "Foresight: forest", "By trials", "Layers"] and arms["mine"].draws == 1
    assert "forest forecasts" in arms["foresight:forest"].about


@pytest.mark.parametrize("path", sorted(RECORDED.glob("*/results.json")), ids=lambda path: path.parent.name)
def test_settings_of_recorded_comparisons_can_be_read(path):
    data = json.loads(path.read_text())
    assert set(recorded_settings(data).chosen) == set(data["budgets"][0]["arms"])


def test_the_same_records_make_the_same_files(finished, tmp_path):
    folder, config, records, _ = finished
    write_results(tmp_path, config, records)
    for file in (RESULTS, *(f"{name}.parquet" for name in SCHEMAS)):
        assert (tmp_path / file).read_bytes() == (folder / file).read_bytes()


def test_tables_have_the_declared_columns_and_every_run(finished):
    folder, _, records, summary = finished
    tables = {name: pq.read_table(folder / f"{name}.parquet") for name in SCHEMAS}
    for name, schema in SCHEMAS.items():
        assert tables[name].schema.equals(schema)
        assert tables[name].schema.metadata[b"foresight_schema"] == b"2"
    runs = {row["key"]: row for row in tables["runs"].to_pylist()}
    assert set(runs) == {record.key for record in records}
    for record in records:
        row = runs[record.key]
        assert (row["arm"], row["task"], row["error"]) == (record.cell.arm, record.cell.task, record.error)
        assert row["broken"] == ("failed" if record.failed else None)
        for key, measure in MEASURES.items():
            assert row[key] == measure.read(record)
    assert tables["curves"].num_rows == sum(len(r.measures.curve) for r in records if r.measures)
    contrasts = tables["contrasts"].to_pylist()
    assert contrasts[0]["b"] == "best of the baselines" and contrasts[0]["outcome"] == "broken"
    assert len(contrasts) == 1 + len(summary.budgets[0].contrasts)


def test_folders_of_equal_settings_are_one_comparison(tmp_path):
    """Tasks split over two folders, as two machines would do, are the comparison of all of them."""
    whole = settings(4)
    records = comparison(whole)
    first, second = (
        replace(whole, target_tasks=list(names(4)[:2])),
        replace(whole, target_tasks=list(names(4)[2:]), workers=7),
    )
    write(tmp_path / "a", first, [r for r in records if r.cell.stage != "score" or r.cell.task in first.target_tasks])
    write(tmp_path / "b", second, [r for r in records if r.cell.stage != "score" or r.cell.task in second.target_tasks])
    config, summary, found, _ = read_comparisons([tmp_path / "a", tmp_path / "b"])
    assert config.target_tasks == whole.target_tasks and len(found) == len(records)
    expected = write_results(tmp_path / "whole", whole, records)
    assert summary.budgets == expected.budgets
    assert read_comparisons([tmp_path / "a", tmp_path / "a"])[1] == read_comparisons([tmp_path / "a"])[1]


@pytest.mark.parametrize(
    "changes, name",
    [({"steps": 41}, "steps"), ({"retained_tasks": ["reverse"]}, "retained_tasks"), ({"seeds": 3}, "seeds")],
)
def test_folders_of_other_settings_are_refused_by_name(finished, tmp_path, changes, name):
    folder, config, records, _ = finished
    write(tmp_path, replace(config, **changes), records)
    with pytest.raises(DataError, match=f"another {name} than"):
        read_comparisons([folder, tmp_path])


def test_a_folder_without_a_comparison_is_refused(finished, tmp_path):
    with pytest.raises(DataError, match="not the result of a finished comparison"):
        read_comparisons([tmp_path])
    (tmp_path / RESULTS).write_text('{"schema": 0}')
    with pytest.raises(DataError, match="schema 0"):
        read_comparisons([tmp_path])
    data = read_sealed(finished[0] / RESULTS)
    write_sealed(tmp_path / RESULTS, data)
    with pytest.raises(DataError, match="lacks"):
        read_comparisons([tmp_path])
    write_sealed(tmp_path / RESULTS, {**data, "config": {**data["config"], "seeds": 0}})
    with pytest.raises(DataError, match="seeds is 0"):
        read_comparisons([tmp_path])
    with pytest.raises(DataError, match="at least one folder"):
        read_comparisons([])
