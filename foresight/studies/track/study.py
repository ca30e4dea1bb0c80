"""The study: tasks x strategies x seeds from one base model. Each cell runs once, even if the study is interrupted.

OUT/study.json         every setting
OUT/runs/<cell>/       run/recording/ (see `recording`), result.json, run/delta/ if models are kept
OUT/analysis/          tables and answers (see `analysis`)
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import active_children, get_context
from pathlib import Path
from typing import Any

from rich.console import Console

from ...common.errors import ConfigError, ForesightError
from ...common.files import write_json
from ...common.progress import progress_bar
from ..circuits.boolean import require_solver
from ..runner import start_worker as start_worker
from .cells import MEASURED, RECORDING, RUN, Cell, Result, Setting, measure_base, read_result, run_cell
from .recording import HEAD

STUDY, RUNS = "study.json", "runs"
_FREE = {"tasks", "strategies", "seeds", "workers", "disable_tqdm", "output_dir"}
"""Settings that may change when a study is continued, because no cell depends on them."""


@dataclass(frozen=True)
class Study:
    """A finished study: its folder, and its results in the order of the cells."""

    folder: Path
    results: tuple[Result, ...]

    def path(self, cell: Cell) -> Path:
        """The folder of a cell."""
        return self.folder / RUNS / cell.name


def run_study(
    out: str | Path,
    setting: Setting,
    settings: dict[str, Any],
    resume: bool = False,
    console: Console | None = None,
) -> Study:
    """Run the cells of a study that have no result yet, then measure the base model.

    Several workers are spawned processes, so a script that calls this needs an ``if __name__ == "__main__":`` guard.

    Args:
        settings: part -> setting -> value, as JSON; kept in study.json and compared when a study is continued.

    Raises:
        ConfigError: the folder holds a study and `resume` is not set, or the study there has other settings.
        ForesightError: a cell cannot run; the results of the others are kept.
    """
    out, cells = Path(out), setting.cells()
    if setting.track.conflict and setting.track.edges_every and len({cell.task for cell in cells}) > 1:
        require_solver()  # of the Boolean conflict on the base model, which comes last
    _claim(out, settings, resume)
    waiting = [cell for cell in cells if read_result(out / RUNS / cell.name) is None]
    with _progress(len(cells), len(cells) - len(waiting), console) as advance:
        run = _here if setting.track.workers == 1 else _in_workers
        for cell in run(waiting, out, setting):
            advance(cell)
    results = [read_result(out / RUNS / cell.name) for cell in cells]
    done = {r.cell.task: out / RUNS / r.cell.name for r in results if r is not None and r.error is None}
    if done and (waiting or not (out / MEASURED).exists()):
        write_json(out / MEASURED, measure_base(done, setting))
    return Study(out, tuple(result for result in results if result is not None))


def _claim(out: Path, settings: dict[str, Any], resume: bool) -> None:
    file = out / STUDY
    if not file.exists() or not any((out / RUNS).glob(f"*/{RUN}/{RECORDING}/{HEAD}")):
        write_json(file, settings)  # nothing was recorded yet, so the folder counts as free
        return
    if not resume:
        raise ConfigError(f"{out} already holds a study; continue it with --resume, or name another --out")
    try:
        before = json.loads(file.read_text())
    except ValueError as error:
        raise ConfigError(f"{file} cannot be read ({error}); name another --out") from error
    for part, fields in settings.items():
        for name, value in fields.items():
            found = before.get(part, {}).get(name)
            if found != value and name not in _FREE:
                raise ConfigError(
                    f"{out} holds a study with {name} {found!r}, now it is {value!r}; resume with the settings that "
                    "it was started with, or name another --out"
                )
    write_json(file, settings)


def _here(cells: list[Cell], out: Path, setting: Setting) -> Iterator[Cell]:
    for cell in cells:
        run_cell(cell, out / RUNS / cell.name, setting)
        yield cell


def _in_workers(cells: list[Cell], out: Path, setting: Setting) -> Iterator[Cell]:
    workers = min(setting.track.workers, len(cells))
    if not workers:
        return
    (out / RUNS).mkdir(parents=True, exist_ok=True)
    others, finished = set(active_children()), False
    pool = ProcessPoolExecutor(workers, get_context("spawn"), start_worker, (out / RUNS / "workers.log",))
    try:
        futures = {pool.submit(_work, cell, out / RUNS / cell.name, setting): cell for cell in cells}
        for future in as_completed(futures):
            if problem := future.result():
                raise ForesightError(f"{futures[future].name}: {problem}")
            yield futures[future]
        finished = True
    except BrokenProcessPool as error:
        raise ForesightError(
            f"a worker process died (out of memory?); see {out / RUNS / 'workers.log'}, and continue with --resume "
            "--workers 1"
        ) from error
    finally:
        pool.shutdown(wait=finished, cancel_futures=True)
        for child in set(active_children()) - others:  # still busy after an error or Ctrl-C; their cells can be resumed
            child.terminate()


def _work(cell: Cell, folder: Path, setting: Setting) -> str | None:
    """Run a cell in a worker; an error that the user can fix is returned as a message."""
    import torch
    from datasets import disable_progress_bars
    from transformers.utils import logging

    torch.set_num_threads(1)
    logging.disable_progress_bar()
    disable_progress_bars()
    try:
        run_cell(cell, folder, setting)
    except ForesightError as error:
        return str(error)
    return None


@contextmanager
def _progress(total: int, done: int, console: Console | None):
    if total == 1:  # the training loop has its own bar
        yield lambda cell: None
        return
    with progress_bar(console) as progress:
        bar = progress.add_task("runs", total=total - done)
        yield lambda cell: progress.update(bar, advance=1, description=cell.name)
