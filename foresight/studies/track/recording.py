"""The recording of one run: the score of every component on every probe example, at every snapshot.

    recording.json               components, tasks, scorers, circuit size, what the scores belong to
    samples/00000040.safetensors "<task>/<scorer>": float32 [n_rows, n_components], signed, one row per probe example
    edges/00000040.parquet       task, source, destination, role, score (only at snapshots with edges)
    weights/00000040/            the delta of the run at that step (see foresight.bank.delta), if kept
    metrics/00000040.json        accuracy and loss of the tasks, seconds; written last: a step without it does not exist
    stability/00000040.safetensors  how far this step's metric drops when all but the circuit of another step is ablated

Samples are kept, not only their means, because the noise floors (halves of the probe) and the bootstrap need them.
Every file is whole or absent (`foresight.common.files`).
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors import SafetensorError

from ...common.errors import NonFiniteError, TrajectoryError
from ...common.files import write_whole
from ...common.sealed import load_sealed, read_sealed, save_sealed, write_sealed
from ...trajectory.series import METADATA

VERSION = 1
HEAD = "recording.json"
_CIRCUITS = "/circuits"  # no task has a slash in its name
EDGE_COLUMNS = pa.schema(
    [("task", pa.string()), ("source", pa.string()), ("destination", pa.string()), ("role", pa.string()),
     ("score", pa.float32())]
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Head:
    """What a recording belongs to; fixed when it is created.

    Attributes:
        table, model: hashes of the component table and of the weights before training.
        components: metadata arrays [n_components] by name (see `foresight.trajectory.series.METADATA`).
        probes: task -> hash of its probe.
        scorers: names; `stability/` tests the circuits of the first.
        circuit: components in a circuit, k.
        errors: "<task>/<scorer>" -> what has to be added to the scores of every component, as exact patching found it.
        calibration: "<task>/<scorer>" -> kind -> factor of all scores, in recordings of earlier versions.
    """

    table: str
    model: str
    components: dict[str, np.ndarray]
    probes: dict[str, str]
    scorers: tuple[str, ...]
    circuit: int
    errors: dict[str, list[float]] = field(default_factory=dict)
    info: dict[str, Any] = field(default_factory=dict)
    calibration: dict[str, dict[str, float]] = field(default_factory=dict)

    @property
    def tasks(self) -> tuple[str, ...]:
        return tuple(self.probes)

    def corrected(self, task: str, scorer: str, scores: np.ndarray) -> np.ndarray:
        """Signed scores or samples [..., n_components], corrected as exact patching at the first step has it."""
        key = f"{task}/{scorer}"
        by_kind = self.calibration.get(key, {})
        factors = np.array([by_kind.get(kind, 1.0) for kind in self.components["kind"].tolist()])
        return scores * factors + np.array(self.errors.get(key, 0.0))

    def magnitude(self, task: str, scorer: str, samples: np.ndarray) -> np.ndarray:
        """The scores that circuits are built from: |corrected mean over rows|, float64 [n_components]."""
        return np.abs(self.corrected(task, scorer, samples.mean(0, dtype=np.float64)))


@dataclass(frozen=True)
class Metrics:
    """The numbers of one snapshot: by task accuracy and loss on its held-out examples (a task without them has no
    entry), wall time since the run began, and the part of it that snapshots took.
    """

    tasks: dict[str, dict[str, float]] = field(default_factory=dict)
    tracking_seconds: float = 0.0
    seconds: float = 0.0


class Recording:
    """Snapshots of one run in a folder, with their `steps` ascending. Use `create` or `read` to make one."""

    def __init__(self, path: Path, head: Head):
        self.path, self.head = path, head
        self.steps = sorted(int(file.stem) for file in (path / "metrics").glob("[0-9]*.json"))

    @classmethod
    def create(cls, path: str | Path, head: Head) -> Recording:
        """Start an empty recording in a new folder. Raises TrajectoryError if the folder holds one."""
        path = Path(path)
        if (path / HEAD).exists():
            raise TrajectoryError(f"{path} already holds a recording; resume that run, or name another folder")
        components = {key: head.components[key].tolist() for key in METADATA}
        write_sealed(path / HEAD, {"version": VERSION, **{**asdict(head), "components": components}})
        return cls(path, head)

    @classmethod
    def read(cls, path: str | Path) -> Recording:
        """Open a recording. Raises TrajectoryError if the folder holds none, or one of another version."""
        file = Path(path) / HEAD
        try:
            data = read_sealed(file)
            if (version := data.pop("version")) != VERSION:
                raise TrajectoryError(f"{file} has version {version}; this foresight reads version {VERSION}")
            data["components"] = {key: np.array(data["components"][key], kind) for key, kind in METADATA.items()}
            head = Head(**{**data, "scorers": tuple(data["scorers"])})
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise TrajectoryError(
                f"{file} is not the head of a recording ({error!r}); name the folder `recording` of a tracked run"
            ) from error
        return cls(Path(path), head)

    # -- writing ----------------------------------------------------------------------------------------------------

    def append(
        self,
        step: int,
        samples: Mapping[str, np.ndarray],
        metrics: Metrics,
        edges: pa.Table | None = None,
        stability: tuple[Sequence[int], Mapping[str, np.ndarray]] | None = None,
    ) -> None:
        """Add the snapshot of `step`.

        Args:
            samples: "<task>/<scorer>" -> [n_rows, n_components], the same keys and shapes at every step.
            edges, stability: see `EDGE_COLUMNS` and `write_stability`.

        Raises:
            TrajectoryError: a step that does not follow the last one.
            NonFiniteError: NaN or infinity among the samples.
        """
        if self.steps and step <= self.steps[-1]:
            raise TrajectoryError(
                f"{self.path}: step {step} does not follow step {self.steps[-1]}; a run that resumes truncates first"
            )
        arrays = {key: np.ascontiguousarray(values, np.float32) for key, values in samples.items()}
        for key, array in arrays.items():
            if len(bad := self.head.components["name"][~np.isfinite(array).all(0)]):
                raise NonFiniteError(
                    f"step {step}: samples of {key} are not finite for {len(bad)} components (first: {bad[0]}); the "
                    "run has probably diverged: lower the learning rate"
                )
        if edges is not None:
            write_whole(self._file("edges", step, "parquet"), partial(pq.write_table, edges.cast(EDGE_COLUMNS)))
        save_sealed(self._file("samples", step, "safetensors"), arrays, {})
        if stability is not None:
            self.write_stability(step, *stability)
        write_sealed(self._file("metrics", step, "json"), asdict(metrics))
        self.steps.append(step)

    def truncate(self, step: int) -> None:
        """Delete all files of later steps, complete or not, the mark of completeness (metrics) first."""
        later = [p for folder in ("metrics", "stability", "samples", "edges", "weights")
                 for p in (self.path / folder).glob("[0-9]*") if int(p.name.split(".")[0]) > step]  # fmt: skip
        for path in (*later, *self.path.glob("*/.*.part"), *self.path.glob(".*.part")):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
        self.steps = [kept for kept in self.steps if kept <= step]

    def write_stability(self, step: int, circuits: Sequence[int], drops: Mapping[str, np.ndarray]) -> None:
        """Write how the circuits of some steps do on the model of `step`: task -> `circuit_drops` of them."""
        arrays = {task: np.ascontiguousarray(values, np.float32) for task, values in drops.items()}
        arrays[_CIRCUITS] = np.array(circuits, np.int64)
        save_sealed(self._file("stability", step, "safetensors"), arrays, {})

    def weights(self, step: int) -> Path:
        """Folder for the delta of `step`."""
        return self.path / "weights" / f"{step:08d}"

    # -- reading, which raises TrajectoryError for what is damaged or missing -----------------------------------------

    def samples(self, step: int, task: str, scorer: str) -> np.ndarray:
        """float32 [n_rows, n_components], signed and not corrected."""
        file = self._file("samples", step, "safetensors")
        with _reading(file):
            return load_sealed(file)[0][f"{task}/{scorer}"]

    def magnitudes(self, task: str, scorer: str) -> np.ndarray:
        """`Head.magnitude` at every step: float64 [n_steps, n_components]."""
        return np.stack([self.head.magnitude(task, scorer, self.samples(s, task, scorer)) for s in self.steps])

    def metrics(self, step: int) -> Metrics:
        file = self._file("metrics", step, "json")
        with _reading(file):
            return Metrics(**read_sealed(file))

    def edges(self, step: int) -> pa.Table | None:
        """The edges of a step, or None if none were recorded then."""
        file = self._file("edges", step, "parquet")
        return pq.read_table(file) if file.exists() else None

    def stability(self, step: int) -> tuple[list[int], dict[str, np.ndarray]] | None:
        """What `write_stability` wrote for the model of `step`, (circuits, drops), or None."""
        file = self._file("stability", step, "safetensors")
        if not file.exists():
            return None
        with _reading(file):
            arrays, _ = load_sealed(file)
            return arrays.pop(_CIRCUITS).tolist(), arrays

    def _file(self, folder: str, step: int, suffix: str) -> Path:
        return self.path / folder / f"{step:08d}.{suffix}"


@contextmanager
def _reading(file: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, SafetensorError, ValueError, TypeError, KeyError) as error:
        raise TrajectoryError(f"{file} is damaged or missing ({error!r})") from error
