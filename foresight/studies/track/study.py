"""The study: tasks x strategies x seeds from one base model. Each cell runs once, even if the study is interrupted.

OUT/study.json         every setting
OUT/runs/<cell>/       run/recording/ (see `recording`), result.json, run/delta/ if models are kept
OUT/analysis/          tables and answers (see `analysis`)
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import Any

from rich.console import Console

from ...common.errors import ConfigError, NonFiniteError
from ...common.sealed import read_sealed, write_sealed
from ..circuits.boolean import require_solver
from ..provenance import text_digest
from ..runner import RUNS, Runner, Work, quiet
from .cells import MEASURED, RECORDING, RUN, Cell, Measures, Record, Setting, measure_base, run_cell
from .recording import HEAD

STUDY = "study.json"
_FREE = {"tasks", "strategies", "seeds", "workers", "disable_tqdm", "output_dir"}
"""Settings that may change when a study is continued, because no cell depends on them."""


@dataclass(frozen=True)
class Study:
    """A finished study: its folder, and its results in the order of the cells."""

    folder: Path
    results: tuple[Record, ...]

    def path(self, cell: Cell) -> Path:
        """The folder of a cell."""
        return self.folder / RUNS / cell.label


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
    decisive = {part: {k: v for k, v in of.items() if k not in _FREE} for part, of in settings.items()}
    cells = [replace(cell, settings=text_digest(decisive)) for cell in cells]
    workers = setting.track.workers if setting.track.workers > 1 else 0
    run = partial(_run, setting=setting, in_worker=bool(workers))
    work = Work(run, Cell, Measures, (NonFiniteError,), continues=True, place=attrgetter("label"))
    with Runner(out / RUNS, work, workers, len(cells), console, silent=len(cells) == 1) as runner:
        waiting = [cell for cell in cells if runner.read(cell) is None]
        records = runner.run(cells)
    done = {record.cell.task: runner.path(record.cell) for record in records if not record.failed}
    if done and (waiting or not (out / MEASURED).exists()):
        write_sealed(out / MEASURED, measure_base(done, setting))
    return Study(out, tuple(records))


def _run(cell: Cell, folder: Path, setting: Setting, in_worker: bool) -> Measures:
    if in_worker:
        quiet()
    return run_cell(cell, folder, setting)


def _claim(out: Path, settings: dict[str, Any], resume: bool) -> None:
    file = out / STUDY
    if not file.exists() or not any((out / RUNS).glob(f"*/{RUN}/{RECORDING}/{HEAD}")):
        write_sealed(file, settings)  # nothing was recorded yet, so the folder counts as free
        return
    if not resume:
        raise ConfigError(f"{out} already holds a study; continue it with --resume, or name another --out")
    try:
        before = read_sealed(file)
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
    write_sealed(file, settings)
