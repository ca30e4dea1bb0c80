"""Runs the cells of a study, each once, whatever interrupts it.

A cell has a folder. Its `result.json` is written last and in one step, so a study that was killed and is started again
continues with the cells that have none, or one with another key (see `provenance.cell_key`). A failure of the run
itself, such as a loss that diverged, is a result and is recorded. After a failure that may pass, such as a full disk,
the cell is tried once more, alone; if it fails again the study stops with an error and can be continued later.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from multiprocessing import active_children, get_context, parent_process
from pathlib import Path
from typing import Any, Generic

from rich.console import Console

from ..common.console import progress_bar
from ..common.errors import ForesightError
from ..common.files import DiskFullError, one_writer
from ..common.numbers import duration
from ..common.sealed import write_sealed
from .ledger import RESULT, C, M, Record, read_record
from .provenance import cell_key, environment

EVERY = 30.0
"""Seconds between lines about the progress where there is no terminal to draw a bar on."""
BEGUN, RUNS = ".key", "runs"
"""The file in a cell's folder that holds the key of the cell begun there; the folder of the cells' folders."""

FULL = ({errno.ENOSPC, errno.EDQUOT}, ("No space left", "Disk quota exceeded"))
SCARCE = (
    {errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.EAGAIN},
    ("out of memory", "can't allocate memory", "Too many open files"),
)
"""Failures that may pass: numbers of system errors, and what libraries write that do not pass the number on."""


@dataclass(frozen=True)
class Work(Generic[C, M]):
    """What the cells of a study have in common.

    Attributes:
        run: runs one cell in the given folder and returns its measures, a dataclass or plain JSON. Importable by name
            from a fresh process.
        cell, measures: the types, for reading records.
        recorded: exceptions that are the result of a run. Any other stops the study.
        continues: a cell that was interrupted finds what it had left in its folder, instead of an empty folder.
        place: name of a cell's folder.
    """

    run: Callable[[C, Path], M]
    cell: type[C]
    measures: Any
    recorded: tuple[type[Exception], ...] = (Exception,)
    continues: bool = False
    place: Callable[[Any], str] = cell_key


class Runner(Generic[C, M]):
    """Worker processes over a folder of records; a context manager.

    Args:
        folder: where the cells' folders are, made if missing.
        workers: processes, each computing on one thread; 0 runs the cells in this process.
        total: cells expected over all calls of `run`, for the time left; unknown by default.
    """

    def __init__(
        self,
        folder: Path,
        work: Work[C, M],
        workers: int = 2,
        total: int | None = None,
        console: Console | None = None,
        silent: bool = False,
    ):
        self.folder, self.work, self.workers = Path(folder), work, workers
        self.progress = progress_bar(console, silent)
        self._bar = self.progress.add_task("runs", total=total)
        self._told = -EVERY
        self._total = total
        self._pool: ProcessPoolExecutor | None = None
        self._others = set(active_children())
        self._known: set[Path] = set()  # cells that some call of `run` has had
        self._log = self.folder / "workers.log"
        self._alone = one_writer(self.folder)

    def __enter__(self) -> Runner[C, M]:
        """Raises ConfigError while another process runs cells in the folder: they would undo each other's runs."""
        self._alone.__enter__()
        self.progress.start()
        return self

    def __exit__(self, kind, *_) -> None:
        self.progress.stop()
        if self._pool:
            self._pool.shutdown(wait=kind is None, cancel_futures=True)
            if kind is not None:  # an error or Ctrl-C: what is under way runs again when the study is continued
                for child in set(active_children()) - self._others:
                    child.terminate()
        self._alone.__exit__(None, None, None)

    def path(self, cell: C) -> Path:
        """The folder of a cell."""
        return self.folder / self.work.place(cell)

    def read(self, cell: C) -> Record[C, M] | None:
        """The record of a cell, or None while there is none of its key. Raises DataError if it is damaged."""
        record = read_record(self.path(cell) / RESULT, self.work.cell, self.work.measures)
        return record if record and record.key == cell_key(cell) else None

    def run(self, cells: Iterable[C], stage: str = "runs") -> list[Record[C, M]]:
        """Records of the cells, in their order; those already on disk are read, the others run.

        Raises:
            DiskFullError: a result could not be written; what was recorded before stays.
            ForesightError: a cell failed twice for a reason that may pass, or with an error that is not a result.
        """
        cells = list(cells)
        distinct = {self.path(cell): cell for cell in cells}
        queue = deque(cell for cell in distinct.values() if self.read(cell) is None)
        if self._total is not None:
            self._total -= len(distinct.keys() - {self.path(cell) for cell in queue} - self._known)  # done before
        self._known |= distinct.keys()
        self.progress.update(self._bar, description=stage, total=self._total)
        if queue:
            self._tell()
        retried = [cell for cell, reason in self._attempts(queue) if reason]
        if failed := [found for cell in retried for found in self._attempts(deque([cell])) if found[1]]:
            cell, words = failed[0]
            raise ForesightError(
                f"{len(failed)} of {len(distinct)} runs failed twice for a reason that may pass, first {cell.label}: "
                f"{words}. They are not recorded: run the same command again, with more memory or fewer workers"
            )
        return [record for cell in cells if (record := self.read(cell))]

    def _attempts(self, queue: deque[C]) -> Iterator[tuple[C, str | None]]:
        """Run every cell of the queue; each as it ends, with the reason if it failed for one that may pass."""
        running: dict[Future, C] = {}
        while queue or running:
            try:
                while queue and len(running) < self.workers:
                    future = self._submit(queue[0])  # may find the pool broken: the cell is then still queued
                    running[future] = queue.popleft()
                if not self.workers:
                    cell = queue.popleft()
                    ended = [(cell, attempt(self.work, cell, self.path(cell)))]
                else:
                    done = wait(running, return_when=FIRST_COMPLETED).done
                    ended = [(running[future], future.result()) for future in done]
                    running = {future: cell for future, cell in running.items() if future not in done}
            except BrokenProcessPool:
                self._pool = None
                words = f"its worker process was killed (out of memory, or a crash in native code; see {self._log})"
                ended = [(cell, None if self.read(cell) else words) for cell in running.values()]
                running = {}
            for cell, reason in ended:
                self.progress.advance(self._bar, not reason)
                self._tell()
                yield cell, reason

    def _tell(self) -> None:
        """Print a line about the progress, at most one in `EVERY` seconds, where the output is a file or a pipe."""
        bar, out = self.progress.tasks[0], self.progress.console
        taken = bar.elapsed or 0.0
        if out.is_terminal or self.progress.disable or taken - self._told < EVERY:
            return
        self._told = taken
        words = f"{bar.description}: {bar.completed:.0f}{f' of {bar.total:.0f}' if bar.total else ''} runs done"
        if bar.completed and bar.remaining:
            words += f" in {duration(taken)}, about {duration(taken / bar.completed * bar.remaining)} left"
        out.print(words, highlight=False)

    def _submit(self, cell: C) -> Future:
        if self._pool is None:
            given = self._log, self.work
            self._pool = ProcessPoolExecutor(self.workers, get_context("spawn"), _start_worker, given)
        return self._pool.submit(_in_worker, cell, self.path(cell))


def attempt(work: Work[C, M], cell: C, folder: Path) -> str | None:
    """Run one cell and write its record; return why it failed if that may pass. Raises as `Runner.run`."""
    key, begun = cell_key(cell), folder / BEGUN
    if not (work.continues and begun.exists() and begun.read_text() == key):
        shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    begun.write_text(key)
    record: Record = Record(key, cell, environment())
    try:
        record = replace(record, measures=work.run(cell, folder))
        json.dumps(record.to_json(), allow_nan=False)  # a measure that is not finite is a failure, not a result
    except Exception as problem:
        if _is_about(problem, FULL):
            raise DiskFullError(f"no space left for {cell.label} in {folder}; free some and run it again") from problem
        (folder / "error.txt").write_text(traceback.format_exc())
        words = f"{type(problem).__name__}: {problem}"
        if isinstance(problem, MemoryError) or _is_about(problem, SCARCE):
            return words
        if isinstance(problem, ForesightError) and not isinstance(problem, work.recorded):
            raise ForesightError(f"{cell.label}: {problem}") from problem
        if not isinstance(problem, work.recorded):  # someone else's code: the line that raised it as well
            place = traceback.extract_tb(problem.__traceback__)[-1]
            raise ForesightError(f"{cell.label}: {words} ({place.filename}:{place.lineno})") from problem
        record = replace(record, measures=None, error=words)
    write_sealed(folder / RESULT, record.to_json())
    return None


def _is_about(error: BaseException | None, what: tuple[set[int], tuple[str, ...]]) -> bool:
    """Whether an exception, or one that it came from, has one of these numbers or says one of these words."""
    numbers, words = what
    while error is not None:
        if getattr(error, "errno", None) in numbers or any(word in str(error) for word in words):
            return True
        error = error.__cause__ or error.__context__
    return False


_work: list[Work[Any, Any]] = []
"""Of a worker process: what it does with a cell, passed once per process as it may hold data."""


def _start_worker(log: Path, work: Work[Any, Any]) -> None:
    """Compute on one thread, write output into a log, ignore Ctrl-C (the parent decides), end when the parent does."""
    _work.append(work)
    with log.open("a") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = "1"
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_follow_parent, daemon=True).start()


def quiet() -> None:
    """Compute on one thread, without the libraries' progress bars: the study has its own."""
    import torch
    from datasets import disable_progress_bars
    from transformers.utils import logging

    torch.set_num_threads(1)
    logging.disable_progress_bar()
    disable_progress_bars()


def _in_worker(cell: Any, folder: Path) -> str | None:
    return attempt(_work[0], cell, folder)


def _follow_parent() -> None:
    if parent := parent_process():
        parent.join()
        os._exit(1)
