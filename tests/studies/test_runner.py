"""Each cell runs once, whatever happens to the processes; what may pass is no result."""

import errno
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from foresight.common.errors import ConfigError, DataError, ForesightError, NonFiniteError
from foresight.common.files import DiskFullError
from foresight.studies import runner as runner_module
from foresight.studies.ledger import RESULT
from foresight.studies.runner import Runner, Work


@dataclass(frozen=True)
class Cell:
    """`fails` says how an attempt ends, by its number; after these it succeeds."""

    number: int
    fails: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def label(self) -> str:
        return f"cell {self.number}"


def cells(n: int, seconds: float = 0.0, fails: dict[int, list[str]] | None = None) -> list[Cell]:
    return [Cell(i, (fails or {}).get(i, []), seconds) for i in range(n)]


def run(cell: Cell, folder: Path) -> dict[str, float]:
    """A stand-in for training: leaves a trace of every attempt, and fails where the cell says so."""
    before = attempts(folder.parent, cell.number)
    with (folder.parent / f"attempts-{cell.number}").open("a") as file:
        file.write("x")
    match cell.fails[before : before + 1]:
        case ["raises"]:
            raise FloatingPointError("the loss became NaN")
        case ["settings"]:
            raise DataError("no rows")
        case ["nan"]:
            return {"accuracy": float("nan")}
        case ["dies"]:
            os._exit(1)
        case ["memory"]:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes")
        case ["files"]:
            try:
                raise OSError(errno.EMFILE, "Too many open files")
            except OSError as error:
                raise DataError("the task cannot be read") from error
        case ["full"]:
            raise OSError(errno.ENOSPC, "No space left on device")
    time.sleep(cell.seconds)
    (folder / "left").touch()
    return {"accuracy": cell.number / 10}


def attempts(folder: Path, number: int) -> int:
    path = folder / f"attempts-{number}"
    return len(path.read_text()) if path.exists() else 0


WORK = Work(run, Cell, dict[str, float])


@pytest.fixture(params=[0, 2], ids=["in this process", "two workers"])
def workers(request):
    return request.param


def test_done_cells_are_read_not_run_again(tmp_path, workers):
    with Runner(tmp_path, WORK, workers) as runner:
        first = runner.run(cells(3))
        second = runner.run(cells(4))
    assert [record.measures["accuracy"] for record in second] == [0.0, 0.1, 0.2, 0.3]
    assert second[:3] == first
    assert [attempts(tmp_path, i) for i in range(4)] == [1, 1, 1, 1]


def test_a_cell_named_twice_runs_once_and_is_answered_twice(tmp_path, workers):
    with Runner(tmp_path, WORK, workers) as runner:
        assert len(runner.run([*cells(1), *cells(1)])) == 2
    assert attempts(tmp_path, 0) == 1


def test_failing_cells_are_recorded_and_harm_no_other(tmp_path, workers):
    """An exception, and a measure that is no number; the rest of the queue is finished."""
    batch = cells(5, fails={1: ["raises"], 2: ["nan"]})
    with Runner(tmp_path, WORK, workers) as runner:
        records = runner.run(batch)
        again = runner.run(batch)
    assert [record.failed for record in records] == [False, True, True, False, False]
    assert records[1].error == "FloatingPointError: the loss became NaN"
    assert "not JSON compliant" in records[2].error
    assert again == records and attempts(tmp_path, 1) == 1
    assert "Traceback" in (runner.path(batch[1]) / "error.txt").read_text()


@pytest.mark.parametrize("how, workers", [("dies", 2), ("memory", 0), ("files", 0)])
def test_what_may_pass_is_tried_again_and_is_no_result(tmp_path, how, workers):
    """Once alone after the others; if that fails as well, nothing is recorded, and the next call tries again."""
    lucky, unlucky = (cells(4, fails={2: [how] * times}) for times in (1, 2))
    with Runner(tmp_path / "once", WORK, workers) as runner:
        assert not any(record.failed for record in runner.run(lucky))
    assert attempts(tmp_path / "once", 2) == 2
    folder = tmp_path / "twice"
    with (
        Runner(folder, WORK, workers) as runner,
        pytest.raises(ForesightError, match=r"1 of 4 .* first cell 2: .*run the same"),
    ):
        runner.run(unlucky)
    assert len(list(folder.glob(f"*/{RESULT}"))) == 3
    with Runner(folder, WORK, workers) as runner:
        assert not any(record.failed for record in runner.run(unlucky))
    assert [attempts(folder, i) for i in (0, 2)] == [1, 3]


def test_a_full_disk_stops_the_study_at_once(tmp_path, workers):
    with Runner(tmp_path, WORK, workers) as runner, pytest.raises(DiskFullError, match="no space left for cell 0"):
        runner.run(cells(40, fails={0: ["full"]}, seconds=0.05))
    assert not (runner.path(cells(1, fails={0: ["full"]})[0]) / RESULT).exists() and not attempts(tmp_path, 39)


def test_errors_that_are_no_result_stop_the_study(tmp_path, workers):
    work = Work(run, Cell, dict[str, float], recorded=(NonFiniteError,))
    for number, (how, words) in enumerate(
        {"settings": "cell 0: no rows", "raises": r"became NaN .*runner.py:\d+"}.items()
    ):
        batch = cells(1, fails={0: [how]})
        with Runner(tmp_path / str(number), work, workers) as runner, pytest.raises(ForesightError, match=words):
            runner.run(batch)
        with Runner(tmp_path / str(number), work, workers) as runner:
            assert not runner.run(batch)[0].failed


def test_a_cell_may_continue_what_it_had_left(tmp_path):
    (batch,) = cells(1)
    for continues in (False, True):
        with Runner(tmp_path, Work(run, Cell, dict[str, float], continues=continues), 0) as runner:
            runner.path(batch).mkdir(exist_ok=True)
            (runner.path(batch) / "checkpoint").touch()
            (runner.path(batch) / RESULT).unlink(missing_ok=True)
            runner.run([batch])
        assert (runner.path(batch) / "checkpoint").exists() == continues


SCRIPT = """
import sys
from pathlib import Path
from test_runner import WORK, cells
from foresight.studies.runner import Runner
if __name__ == "__main__":
    with Runner(Path(sys.argv[1]), WORK) as runner:
        runner.run(cells(6, seconds=0.4))
"""


@pytest.fixture
def half_done(tmp_path):
    """(process, folder) of a study of six cells when two of them are done."""
    script, folder = tmp_path / "study.py", tmp_path / "runs"
    script.write_text(SCRIPT)
    path = os.pathsep.join([str(Path(__file__).parent), str(Path(__file__).parents[2])])
    process = subprocess.Popen([sys.executable, script, folder], env={**os.environ, "PYTHONPATH": path})
    deadline = time.time() + 60
    while len(list(folder.glob(f"*/{RESULT}"))) < 2:
        assert time.time() < deadline and process.poll() is None
        time.sleep(0.02)
    return process, folder


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT], ids=["killed", "Ctrl-C"])
def test_an_interrupted_study_continues(half_done, how):
    """What was done stays, what was under way is done again, and the workers are gone."""
    process, folder = half_done
    process.send_signal(how)
    assert process.wait(60) != 0
    time.sleep(1.0)  # longer than a cell: an orphaned worker would go on and record
    done = {path.parent.name for path in folder.glob(f"*/{RESULT}")}
    assert 2 <= len(done) < 6
    batch = cells(6, seconds=0.4)
    with Runner(folder, WORK) as runner:
        finished = {runner.path(cell).name: cell.number for cell in batch}
        records = runner.run(batch)
    assert [record.failed for record in records] == [False] * 6
    assert all(attempts(folder, finished[name]) == 1 for name in done)


def test_progress_in_a_file_is_lines_at_a_sensible_rate(tmp_path, monkeypatch):
    monkeypatch.setattr(runner_module, "EVERY", 0.2)
    out = Console(file=(file := StringIO()), width=100)
    with Runner(tmp_path / "a", WORK, 0, 4, out) as runner:
        runner.run(cells(4, 0.15), "edits")
    lines = [line for line in file.getvalue().splitlines() if line.startswith("edits: ")]
    assert lines[0] == "edits: 0 of 4 runs done" and 2 <= len(lines) <= 4
    assert re.fullmatch(r"edits: 2 of 4 runs done in 0:00:0\d, about 0:00:0\d left", lines[1])
    with Runner(tmp_path / "b", WORK, 0, 4, Console(file=(file := StringIO())), silent=True) as runner:
        runner.run(cells(2), "edits")
    assert not file.getvalue()


def test_the_time_left_counts_every_cell_once(tmp_path):
    """Cells asked for twice and cells of an earlier call are not waited for."""
    with Runner(tmp_path, WORK, 0) as runner:
        runner.run(cells(2))
    with Runner(tmp_path, WORK, 0, total=5) as runner:
        runner.run(cells(3))
        runner.run(cells(5))
        (bar,) = runner.progress.tasks
        assert bar.completed == bar.total == 3


def test_one_folder_is_one_process_at_a_time(tmp_path):
    with Runner(tmp_path, WORK), pytest.raises(ConfigError, match="another process is at work"), Runner(tmp_path, WORK):
        pass
    with Runner(tmp_path, WORK) as runner:  # released
        assert runner.run([]) == []
