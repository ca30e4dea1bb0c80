"""Trajectories: the scores of all components over the steps of a run, in memory and (folder.py) on disk."""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping
from dataclasses import dataclass, fields
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..common.errors import NonFiniteError, TrajectoryError, UnknownNameError
from ..common.plugins import part
from ..scoring.scores import Scores
from .folder import SnapshotFile, TrajectoryFolder
from .series import METADATA, Series

if TYPE_CHECKING:
    from ..model.components import ComponentTable

_LIBRARIES = ("foresight-sft", "torch", "transformers", "trl", "numpy")
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Snapshot:
    """Scores of all components at one optimizer step, by scorer name."""

    step: int
    scores: dict[str, Scores]


class Trajectory:
    """Snapshots of one run. Use `create`, `read` or `open_append` to make one.

    Attributes:
        folder: the `TrajectoryFolder` where appended snapshots are written; None keeps them in memory only.
        components: metadata arrays [n_components] by name (layer, kind, index, vectors, name).
        snapshots: by strictly increasing step.
        table_hash, model_hash, data_hash: the component table, model and probe that the scores belong to.
        versions: library versions at creation.
        info: free-form JSON of the run.
        calibration: scorer -> kind -> factor that `series` multiplies by, in trajectories of earlier versions.
    """

    def __init__(self, components: dict[str, np.ndarray], meta: dict[str, Any], folder: TrajectoryFolder | None):
        self.components = components
        self.folder = folder
        self.snapshots: list[Snapshot] = []
        self._meta = meta
        self.table_hash: str = meta["table"]
        self.model_hash: str = meta["model"]
        self.data_hash: str = meta["data"]
        self.versions: dict[str, str] = meta["versions"]
        self.info: dict[str, Any] = meta["info"]
        self.calibration: dict[str, dict[str, float]] = meta["calibration"]

    @classmethod
    def create(
        cls,
        path: str | Path | None,
        table: ComponentTable,
        *,
        model_hash: str = "",
        data_hash: str = "",
        info: dict[str, Any] | None = None,
    ) -> Trajectory:
        """Start an empty trajectory over the components of `table`, in a new folder or, without a path, in memory.

        Raises:
            TrajectoryError: the folder already holds a trajectory, or cannot be written.
            ConfigError: `info` is not JSON.
        """
        folder = None if path is None else TrajectoryFolder(path)
        if folder is not None and folder.exists():
            raise TrajectoryError(f"{path} already holds a trajectory; open it with open_append or name a new folder")
        meta = {
            "table": table.hash, "model": model_hash, "data": data_hash,
            "versions": {name: metadata.version(name) for name in _LIBRARIES}, "info": info or {}, "calibration": {},
        }  # fmt: skip
        trajectory = cls({field: getattr(table, field) for field in METADATA}, meta, folder)
        trajectory._write_head()
        return trajectory

    @classmethod
    def read(cls, path: str | Path, recover: bool = False) -> Trajectory:
        """Read a folder without changing it; snapshots that are appended to the result stay in memory.

        Args:
            recover: keep the good snapshots before a damaged one and log a warning, instead of raising.

        Raises:
            TrajectoryError: not a trajectory, or damaged; names the file and what is wrong with it.
        """
        folder = TrajectoryFolder(path)
        meta, components = folder.read_head()
        trajectory = cls(components, meta, None)
        try:
            trajectory._load(folder, folder.files())
        except TrajectoryError as error:
            if not recover:
                raise TrajectoryError(f"{error}; recover=True keeps the {len(trajectory)} good snapshots") from error
            _log.warning("%s; keeping the %d good snapshots before it", error, len(trajectory))
        return trajectory

    @classmethod
    def open_append(cls, path: str | Path, keep: int | None = None) -> Trajectory:
        """Continue a folder after its first `keep` snapshots (None: all of them); later ones are deleted.

        A run that resumes from a checkpoint passes the number of snapshots that it had then. Later snapshots may be
        damaged.

        Raises:
            TrajectoryError: not a trajectory, fewer than `keep` snapshots, or one of them damaged.
        """
        folder = TrajectoryFolder(path)
        meta, components = folder.read_head()
        trajectory = cls(components, meta, None)
        trajectory._load(folder, [file for file in folder.files() if keep is None or file.sequence < keep])
        if keep is not None and len(trajectory) < keep:
            raise TrajectoryError(f"{path} has {len(trajectory)} snapshots; expected at least {keep} to continue from")
        trajectory.folder = folder
        folder.truncate(len(trajectory))
        return trajectory

    def __len__(self) -> int:
        """Number of snapshots."""
        return len(self.snapshots)

    @property
    def n_components(self) -> int:
        return len(self.components["layer"])

    @property
    def steps(self) -> np.ndarray:
        """int64 [n_snapshots]."""
        return np.array([snapshot.step for snapshot in self.snapshots], np.int64)

    @property
    def scorers(self) -> tuple[str, ...]:
        """Names of the scorers, the same in every snapshot; empty before the first."""
        return tuple(self.snapshots[0].scores) if self.snapshots else ()

    def append(self, step: int, scores: Mapping[str, Scores]) -> None:
        """Add the snapshot of `step`, on disk first: a failed write leaves no trace in memory either.

        Args:
            scores: scorer name -> values and stderr, [n_components] each; the same scorers in every snapshot.

        Raises:
            TrajectoryError: step not after the last one, other scorers than before, wrong shapes.
            NonFiniteError: a value is NaN or infinite, or a standard error or an exact effect infinite.
            DiskFullError: no space left.
        """
        snapshot = self._checked(step, scores)
        if self.folder is not None:
            arrays = {f"{name}/{which}": a for name, of in snapshot.scores.items() for which, a in vars(of).items()}
            self.folder.write(len(self), snapshot.step, {key: a for key, a in arrays.items() if a is not None})
        self.snapshots.append(snapshot)

    def annotate(self, **facts: Any) -> None:
        """Add JSON facts to `info`, on disk too."""
        self.info.update(facts)
        self._write_head()

    def values(self, scorer: str) -> np.ndarray:
        """Scores as the scorer returned them, signed and not corrected: float32 [n_components, n_snapshots].

        Raises:
            UnknownNameError: no such scorer in this trajectory.
        """
        return self.recorded(scorer, "values")

    def recorded(self, scorer: str, which: str) -> np.ndarray:
        """A field of `Scores`, NaN where it is None: float32 [n_components, n_snapshots]; raises as `values`."""
        if self.snapshots and scorer not in self.scorers:
            raise UnknownNameError("scorer of this trajectory", scorer, self.scorers)
        out = np.full((len(self), self.n_components), np.nan, np.float32)
        for row, snapshot in zip(out, self.snapshots, strict=True):
            if (array := getattr(snapshot.scores[scorer], which)) is not None:
                row[:] = array
        return out.T

    def corrected(self, scorer: str) -> np.ndarray:
        """Scores with exact effects in place of estimates, as far as they are known, signed, and calibrated by earlier
        versions: float [n_components, n_snapshots]; raises as `values`.
        """
        values, exact = self._calibrated(scorer, "values"), self.recorded(scorer, "exact")
        if np.isnan(exact).all():
            return values
        return values + part("trajectory.carried.errors_of_estimates")(self.steps, values, exact)

    def _calibrated(self, scorer: str, which: str) -> np.ndarray:
        factors, found = self.calibration.get(scorer), self.recorded(scorer, which)
        if factors is None:
            return found
        return found * np.array([factors[kind] for kind in self.components["kind"].tolist()], np.float32)[:, None]

    def series(self, scorer: str, until: int | None = None) -> Series:
        """What a forecaster may see: magnitudes at steps <= `until`, corrected by exact effects known by then, and
        their standard errors.

        Raises:
            UnknownNameError: no such scorer in this trajectory.
            TrajectoryError: no snapshot at or before `until`.
        """
        steps = self.steps if until is None else self.steps[self.steps <= until]
        if not len(steps):
            why = f"the first is at step {self.snapshots[0].step}" if self.snapshots else "it is empty"
            raise TrajectoryError(f"trajectory has no snapshot to make a series of (until={until}): {why}")
        seen = copy.copy(self)
        seen.snapshots = self.snapshots[: len(steps)]
        values, stderr = seen.corrected(scorer), seen._calibrated(scorer, "stderr")
        if not np.isnan(seen.recorded(scorer, "exact")).all():
            stderr = part("trajectory.carried.standard_errors")(seen, scorer)
        known = None if np.isnan(stderr).all() else stderr
        return Series(values=np.abs(values), steps=steps, stderr=known, **self.components)

    def require_table(self, table: ComponentTable) -> None:
        """Raise TrajectoryError unless the trajectory was recorded over exactly the components of `table`."""
        if not table.has_hash(self.table_hash):
            raise TrajectoryError(
                f"trajectory{f' {self.folder.path}' if self.folder else ''} has component table {self.table_hash} "
                f"({self.n_components} components), this model has {table.hash} ({len(table)}); record it on the same "
                "model with the same mlp_block"
            )

    def _checked(self, step: int, scores: Mapping[str, Scores]) -> Snapshot:
        last = self.snapshots[-1].step if self.snapshots else -1
        if step <= last:
            raise TrajectoryError(f"snapshot of step {step} does not follow step {last}; steps must increase")
        if not scores or (self.snapshots and set(scores) != set(self.scorers)):
            expected = sorted(self.scorers) or "at least one"
            raise TrajectoryError(f"snapshot of step {step} has scorers {sorted(scores)}; expected {expected}")
        recorded = {}
        for scorer in self.scorers or scores:
            arrays = {}
            for which in (field.name for field in fields(Scores)):
                if (given := getattr(scores[scorer], which, None)) is None:
                    continue
                array = np.array(given, np.float32)
                if array.shape != (self.n_components,):
                    raise TrajectoryError(
                        f"{scorer!r} at step {step}: {which} have shape {array.shape}; expected ({self.n_components},)"
                    )
                bad = np.flatnonzero(np.isinf(array) | (np.isnan(array) & (which == "values")))
                if len(bad):
                    first = f"{self.components['name'][bad[0]]} = {array[bad[0]]}"
                    raise NonFiniteError(
                        f"{scorer!r} at step {step}: {len(bad)} {which} are not finite (first: {first}); lower the "
                        "learning rate or check the probe"
                    )
                array.flags.writeable = False
                arrays[which] = array
            recorded[scorer] = Scores(**arrays)
        return Snapshot(int(step), recorded)

    def _load(self, folder: TrajectoryFolder, files: list[SnapshotFile]) -> None:
        for file in files:
            if file.sequence != len(self):
                what = "missing" if file.sequence > len(self) else "there twice"
                number = min(file.sequence, len(self))
                raise TrajectoryError(f"snapshot {number:06d} is {what} (found {file.path})")
            try:
                tensors = folder.read(file)
                found: dict[str, dict[str, np.ndarray]] = {}
                for key, array in tensors.items():
                    name, _, which = key.rpartition("/")
                    found.setdefault(name, {})[which] = array
                scores = {name: Scores(**arrays) for name, arrays in found.items()}
                self.snapshots.append(self._checked(file.step, scores))
            except (TypeError, NonFiniteError, TrajectoryError) as error:
                raise TrajectoryError(f"snapshot {file.path} is damaged: {error}") from error

    def _write_head(self) -> None:
        if self.folder is not None:
            self.folder.write_head(self._meta, self.components)
