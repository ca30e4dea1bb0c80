"""The corpus: recorded runs that forecasters learn from and are judged on, each in a folder or all in one file.

A corpus file is one safetensors file: of run i `i.values` float32 [n_components, n_steps], `i.steps` int64
[n_steps] and, where known, `i.stderr` like the values; of component table j the arrays `table.j.*` of
`foresight.trajectory.series.pack`; and in the header, as JSON, what each run is of.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...common.errors import TrajectoryError
from ...common.sealed import load_sealed, save_sealed
from ...trajectory.folder import TrajectoryFolder
from ...trajectory.series import METADATA, Series, pack, unpack
from ...trajectory.trajectory import Trajectory
from ..track.recording import HEAD, Recording

VERSION = 1
_HEAD: dict[str, Any] = {"model": str, "task": str, "scorer": str, "learning_rate": float, "seed": int}
SHIPPED = Path(__file__).parents[2] / "model" / "shipped" / "corpus.safetensors"
"""Eight tasks x two models x two learning rates x three data orders; recipes/forecasters/corpus.yaml records them."""


@dataclass(frozen=True, eq=False)
class Run:
    """One recorded run, as one scorer saw it. The seed is that of the data order, the learning rate 0 if the recording
    does not say, and the recording (its folder) None for a run from a corpus file.
    """

    model: str
    task: str
    scorer: str
    learning_rate: float
    seed: int
    series: Series
    recording: Path | None = None

    @property
    def setting(self) -> tuple[str, str, str, float]:
        """All but the seed. Runs that agree in it are twins: they differ only in the order of their data."""
        return self.model, self.task, self.scorer, self.learning_rate

    @property
    def hash(self) -> str:
        """Hex digest (16 characters) of everything that forecasts and their scores depend on."""
        digest = hashlib.sha256(repr((*self.setting, self.seed)).encode())
        for array in self.series.arrays().values():
            digest.update(array.tobytes())
        return digest.hexdigest()[:16]


def read_runs(paths: Iterable[str | Path]) -> list[Run]:
    """All runs in the given places: corpus files, studies of `foresight track`, recordings, run or trajectory folders.
    Raises TrajectoryError for a place without runs, a damaged run, or a run that occurs twice.
    """
    runs = [run for path in paths for run in _read(Path(path))]
    seen: dict[tuple, Run] = {}
    for run in runs:
        twin = seen.setdefault((*run.setting, run.seed), run)
        if twin is not run:
            raise TrajectoryError(
                f"run {run.task}, seed {run.seed}, learning rate {run.learning_rate:g} of model {run.model} is there "
                f"twice ({twin.recording} and {run.recording}); name each recorded run once"
            )
    return runs


def _read(path: Path) -> list[Run]:
    if path.is_file():
        return read_corpus(path)
    if (path / HEAD).exists():
        return _recorded(path)
    for folder in (path, path / "trajectory"):
        if TrajectoryFolder(folder).exists():
            return _watched(folder)
    runs = [run for head in sorted(path.glob(f"runs/*/run/recording/{HEAD}")) for run in _recorded(head.parent)]
    if not runs:
        raise TrajectoryError(
            f"{path} holds no recorded run; expected a study of `foresight track`, the output_dir of a run with "
            "record: true, or a corpus file"
        )
    return runs


def _recorded(path: Path) -> list[Run]:
    recording = Recording.read(path)
    head, steps = recording.head, np.array(recording.steps)
    if len(steps) < 2:
        return []  # broken off before there was anything to forecast
    task = str(head.info.get("task"))
    task = task if task in head.tasks else head.tasks[0]
    series = {name: Series(recording.magnitudes(task, name).T, steps, **head.components) for name in head.scorers}
    return _runs(path, head.info, head.model, task, series)


def _watched(path: Path) -> list[Run]:
    trajectory = Trajectory.read(path)
    if len(trajectory) < 2:
        return []
    series = {scorer: trajectory.series(scorer) for scorer in trajectory.scorers}
    # Runs on one probe are of one task, whatever their folders are called.
    return _runs(path, trajectory.info, trajectory.model_hash, f"probe-{trajectory.data_hash[:8]}", series)


def _runs(path: Path, info: Mapping[str, Any], model: str, task: str, series: Mapping[str, Series]) -> list[Run]:
    """A run per scorer; `info` is what was recorded of the run, `model` a digest."""
    name = f"{Path(info.get('model') or 'model').name}-{model[:6]}"
    rate, seed = float(info.get("learning_rate", 0)), int(info.get("seed", 0))
    return [Run(name, task, scorer, rate, seed, found, path) for scorer, found in series.items()]


def write_corpus(runs: Sequence[Run], path: str | Path) -> None:
    """Write runs into one file."""
    arrays: dict[str, np.ndarray] = {}
    tables: dict[bytes, int] = {}
    heads = []
    for i, run in enumerate(runs):
        table = pack({name: getattr(run.series, name) for name in METADATA})
        at = tables.setdefault(b"".join(array.tobytes() for array in table.values()), len(tables))
        arrays |= {f"table.{at}.{name}": array for name, array in table.items()}
        arrays |= {f"{i}.values": run.series.values, f"{i}.steps": run.series.steps}
        arrays |= {} if run.series.stderr is None else {f"{i}.stderr": run.series.stderr}
        heads.append({name: getattr(run, name) for name in _HEAD} | {"table": at})
    header = {"corpus": json.dumps({"version": VERSION, "runs": heads})}
    save_sealed(path, arrays, header)


def read_corpus(path: str | Path) -> list[Run]:
    """Inverse of `write_corpus`. Raises TrajectoryError for anything else."""
    try:
        arrays, header = load_sealed(path)
        data = json.loads(header["corpus"])
        if data["version"] != VERSION:
            raise TrajectoryError(f"{path} has version {data['version']}, this foresight reads {VERSION}")
        runs, tables = [], {}
        for i, head in enumerate(data["runs"]):
            j = int(head.pop("table"))
            if j not in tables:
                tables[j] = unpack({name: arrays[f"table.{j}.{name}"] for name in METADATA})
            if missing := {f"{i}.values", f"{i}.steps"} - arrays.keys():
                raise TrajectoryError(f"{path} lacks {', '.join(sorted(missing))}")
            series = Series(arrays[f"{i}.values"], arrays[f"{i}.steps"], **tables[j], stderr=arrays.get(f"{i}.stderr"))
            runs.append(Run(**{name: kind(head[name]) for name, kind in _HEAD.items()}, series=series))
        return runs
    except TrajectoryError as error:
        raise TrajectoryError(f"{path} is damaged: {error}") from error
    except Exception as error:  # safetensors, JSON and the file system each have their own
        raise TrajectoryError(f"{path} is not a corpus of runs: {error!r:.300}") from error
