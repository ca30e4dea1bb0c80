"""Each cell runs once, whatever happens to the processes."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from foresight.common.errors import ConfigError, DataError
from foresight.common.files import write_json
from foresight.studies.compare.results import SCHEMA, Cell, Measures, Record, environment, read_record
from foresight.studies.compare.runner import RESULT, Runner


def cells(n: int, **changes) -> list[Cell]:
    return [Cell("score", "static", "task", seed=i, **changes) for i in range(n)]


def work(cell: Cell, folder: Path) -> Measures:
    """A stand-in for training: leaves a trace of every attempt, and fails where the cell says so."""
    with (folder.parent / f"attempts-{cell.seed}").open("a") as file:
        file.write("x")
    how = cell.data.get("fails", {}).get(str(cell.seed))
    if how == "raises":
        raise FloatingPointError("the loss became NaN")
    if how == "nan":
        return Measures(accuracy={"task": float("nan")})
    if how == "dies":
        os._exit(1)
    time.sleep(cell.data.get("seconds", 0))
    return Measures(accuracy={"task": cell.seed / 10})


def attempts(folder: Path, seed: int) -> int:
    path = folder / f"attempts-{seed}"
    return len(path.read_text()) if path.exists() else 0


def test_done_cells_are_read_not_run_again(tmp_path):
    with Runner(tmp_path, work) as runner:
        first = runner.run(cells(3))
        second = runner.run(cells(4))
    assert [record.measures.accuracy["task"] for record in second] == [0.0, 0.1, 0.2, 0.3]
    assert second[:3] == first
    assert [attempts(tmp_path, i) for i in range(4)] == [1, 1, 1, 1]


def test_a_cell_named_twice_runs_once_and_is_answered_twice(tmp_path):
    with Runner(tmp_path, work) as runner:
        assert len(runner.run([*cells(1), *cells(1)])) == 2
    assert attempts(tmp_path, 0) == 1


def test_failing_cells_are_recorded_and_harm_no_other(tmp_path):
    """An exception, a measure that is no number, and a process that dies; the rest of the queue is finished."""
    batch = cells(6, data={"fails": {"1": "raises", "2": "nan", "3": "dies"}})
    with Runner(tmp_path, work) as runner:
        records = runner.run(batch)
        again = runner.run(batch)
    assert [record.failed for record in records] == [False, True, True, True, False, False]
    assert records[1].error == "FloatingPointError: the loss became NaN"
    assert "not JSON compliant" in records[2].error
    assert "process died" in records[3].error
    assert again == records
    assert attempts(tmp_path, 3) == 2  # once with the others, once alone, never a third time
    assert "Traceback" in (runner.path(batch[1]) / "error.txt").read_text()


SCRIPT = """
import sys
from pathlib import Path
from test_runner import cells, work
from foresight.studies.compare.runner import Runner
if __name__ == "__main__":
    with Runner(Path(sys.argv[1]), work) as runner:
        runner.run(cells(6, data={"seconds": 0.4}))
"""


def test_a_killed_comparison_continues(tmp_path):
    """kill -9 in the middle: what was done stays, what was under way is done again, and the workers are gone."""
    script, folder = tmp_path / "compare.py", tmp_path / "runs"
    script.write_text(SCRIPT)
    path = os.pathsep.join([str(Path(__file__).parent), str(Path(__file__).parents[3])])
    process = subprocess.Popen([sys.executable, script, folder], env={**os.environ, "PYTHONPATH": path})
    deadline = time.time() + 60
    while len(list(folder.glob(f"*/{RESULT}"))) < 2:
        assert time.time() < deadline and process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    time.sleep(1.0)  # longer than a cell: an orphaned worker would go on and record
    done = {path.parent.name for path in folder.glob(f"*/{RESULT}")}
    assert 2 <= len(done) < 6
    batch = cells(6, data={"seconds": 0.4})
    with Runner(folder, work) as runner:
        finished = {runner.path(cell).name: cell.seed for cell in batch}
        records = runner.run(batch)
    assert [record.failed for record in records] == [False] * 6
    assert all(attempts(folder, finished[name]) == 1 for name in done)


def test_the_key_is_everything_that_matters():
    cell, here = Cell("score", "static", "ioi", training={"max_steps": 10}), environment()
    others = [
        replace(cell, seed=1),
        replace(cell, learning_rate=1e-3),
        replace(cell, training={"max_steps": 11}),
        replace(cell, history=("a",)),
        replace(cell, draw=1),
    ]
    assert len({cell.key(here), *(other.key(here) for other in others)}) == 6
    assert cell.key(here) != cell.key({**here, "torch": "0.0"})
    assert cell.key(here) == Cell("score", "static", "ioi", training={"max_steps": 10}).key(here)


def test_records_survive_json(tmp_path):
    measures = Measures({"a": 0.5}, overlap=0.25, schedule=((0, ("L0.head.1",)), (10, ("L1.mlp.0",))))
    record = Record("k", Cell("tune", "full", "a", history=("x", "y")), environment(), measures)
    write_json(tmp_path / RESULT, record.to_json())
    assert read_record(tmp_path / RESULT) == record
    assert read_record(tmp_path / "missing.json") is None


@pytest.mark.parametrize(
    "change", [{"schema": SCHEMA + 1}, {"extra": 1}, {"cell": {"stage": "tune"}}, {"measures": {"acuracy": {}}}]
)
def test_a_record_of_another_shape_is_refused(tmp_path, change):
    record = Record("k", Cell("tune", "full", "a"), environment(), Measures({"a": 0.5})).to_json()
    write_json(tmp_path / RESULT, record | change)
    with pytest.raises(DataError, match="again"):
        read_record(tmp_path / RESULT)


def test_a_torn_record_is_refused(tmp_path):
    (tmp_path / RESULT).write_text(json.dumps(Record("k", Cell("tune", "full", "a"), environment()).to_json())[:-20])
    with pytest.raises(DataError, match="not a result"):
        read_record(tmp_path / RESULT)


def test_the_time_left_counts_every_cell_once(tmp_path):
    """Cells asked for twice and cells of an earlier comparison are not waited for."""
    with Runner(tmp_path, work) as runner:
        runner.run(cells(2))
    with Runner(tmp_path, work, total=5) as runner:
        runner.run(cells(3))
        runner.run(cells(5))
        (bar,) = runner.progress.tasks
        assert bar.completed == bar.total == 3


def test_one_folder_is_one_process_at_a_time(tmp_path):
    with Runner(tmp_path, work), pytest.raises(ConfigError, match="another process is at work"), Runner(tmp_path, work):
        pass
    with Runner(tmp_path, work) as runner:  # let go of
        assert runner.run([]) == []
