"""Cells in worker processes, each recorded once.

A cell lives in `folder/<key>/`; its `result.json` is written last and atomically, so that a comparison killed at any
moment and started again continues with what is missing. A cell that raises is recorded with its error, as is one
whose process dies; to try it again, delete its folder.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict
from multiprocessing import get_context, parent_process
from pathlib import Path

from filelock import FileLock, Timeout
from rich.console import Console

from ...common.errors import ConfigError
from ...common.files import write_json
from ...common.progress import progress_bar
from .results import RESULT, Cell, Measures, Record, environment, read_record

Work = Callable[[Cell, Path], Measures]
"""Runs one cell; files it writes into the given folder stay. Must be importable by name from a fresh process."""


class Runner:
    """A pool of worker processes over a folder of results; a context manager.

    Args:
        folder: where the cells' folders are, made if missing.
        work: what a worker does with a cell; an exception it raises becomes the cell's record.
        workers: processes; each computes on one thread.
        total: cells expected over all calls of `run`, for the time left; unknown by default.
    """

    def __init__(
        self, folder: Path, work: Work, workers: int = 2, total: int | None = None, console: Console | None = None
    ):
        self.folder, self.work, self.workers = Path(folder), work, workers
        self.progress = progress_bar(console)
        self._bar = self.progress.add_task("runs", total=total)
        self._total = total
        self._pool: ProcessPoolExecutor | None = None
        self._known: set[Path] = set()  # cells that some call of `run` has had
        self._lock = FileLock(self.folder / ".lock")  # let go of when the process ends, however it ends

    def __enter__(self) -> Runner:
        """Raises ConfigError while another process is at work in the folder: they would undo each other's runs."""
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            self._lock.acquire(timeout=0)
        except Timeout as error:
            raise ConfigError(
                f"another process is at work in {self.folder}; wait for it, or name another folder"
            ) from error
        self.progress.start()
        return self

    def __exit__(self, kind, *_) -> None:
        self.progress.stop()
        if self._pool:
            self._pool.shutdown(wait=kind is None, cancel_futures=True)
        self._lock.release()

    def path(self, cell: Cell) -> Path:
        """The folder of a cell."""
        return self.folder / cell.key(environment())

    def run(self, cells: Iterable[Cell], stage: str = "runs") -> list[Record]:
        """Records of the cells, in their order; those already on disk are read, the others run.

        Raises:
            DiskFullError: a result could not be written; what was recorded before stays.
        """
        cells = list(cells)
        self.progress.update(self._bar, description=stage)
        distinct = {self.path(cell): cell for cell in cells}
        queue = deque(cell for path, cell in distinct.items() if read_record(path / RESULT) is None)
        if self._total is not None:
            found = distinct.keys() - {self.path(cell) for cell in queue} - self._known  # in an earlier comparison
            self._total -= len(found)
            self.progress.update(self._bar, total=self._total)
        self._known |= distinct.keys()
        while queue:
            for cell in self._together(queue):
                if self._together(deque([cell])):
                    self._record_death(cell)
        records = {path: read_record(path / RESULT) for path in distinct}
        return [record for cell in cells if (record := records[self.path(cell)])]

    def _together(self, queue: deque[Cell]) -> list[Cell]:
        """Run the queue until it is empty or a worker process dies; return the cells that were under way then."""
        running: dict[Future, Cell] = {}
        try:
            while queue or running:
                while queue and len(running) < self.workers:
                    future = self._submit(queue[0])  # may find the pool broken: the cell is then still queued
                    running[future] = queue.popleft()
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    future.result()
                    del running[future]
                    self.progress.advance(self._bar)
        except BrokenProcessPool:
            self._pool = None
            return [cell for cell in running.values() if read_record(self.path(cell) / RESULT) is None]
        return []

    def _submit(self, cell: Cell) -> Future:
        if self._pool is None:
            log = self.folder / "workers.log"
            self._pool = ProcessPoolExecutor(self.workers, get_context("spawn"), start_worker, (log,))
        return self._pool.submit(_attempt, self.work, cell, self.path(cell))

    def _record_death(self, cell: Cell) -> None:
        path = self.path(cell)
        error = "the worker process died twice (out of memory, or a crash in native code)"
        write_json(path / RESULT, Record(path.name, cell, environment(), error=error).to_json())


def start_worker(log: Path) -> None:
    """One thread for arithmetic, output into a log, deaf to Ctrl-C (the parent decides), gone when the parent is."""
    with log.open("a") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = "1"
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_follow_parent, daemon=True).start()


def _follow_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _attempt(work: Work, cell: Cell, path: Path) -> None:
    """Run one cell from an empty folder and write its record."""
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    measures, error = None, None
    try:
        measures = work(cell, path)
        json.dumps(asdict(measures), allow_nan=False)  # a measure that is not finite is a failure, not a result
    except Exception as problem:  # whatever it is, it is this run's result, and the others go on
        measures, error = None, f"{type(problem).__name__}: {problem}"
        (path / "error.txt").write_text(traceback.format_exc())
    write_json(path / RESULT, Record(path.name, cell, environment(), measures, error).to_json())
