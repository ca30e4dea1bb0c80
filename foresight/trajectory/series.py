"""`Series`: one scorer's scores of every component over the steps of a run, which is all that a forecaster sees.

Component metadata and series are saved as plain arrays (no pickle, no object dtype): strings become one uint8 array of
UTF-8 text with a newline between entries.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from ..common.errors import NonFiniteError, TrajectoryError

METADATA: dict[str, type] = {"layer": np.int32, "kind": str, "index": np.int32, "vectors": np.int32, "name": str}
"""The metadata arrays of components, [n_components] each, and their dtypes."""


@dataclass(frozen=True, eq=False)
class Series:
    """Scores of all components at the steps seen so far. Arrays are copied in and read-only.

    Attributes:
        values: float32 [n_components, n_steps], finite and >= 0 (absolute, corrected scores).
        steps: int64 [n_steps], optimizer steps, strictly increasing, irregular gaps allowed.
        layer, index, vectors: int32 [n_components]; kind, name: string [n_components].
        stderr: float32 [n_components, n_steps], standard errors of `values`, NaN where unknown; None if all are.

    Raises:
        TrajectoryError: shapes or steps that do not fit together, negative scores or standard errors.
        NonFiniteError: NaN or infinite scores.
    """

    values: np.ndarray
    steps: np.ndarray
    layer: np.ndarray
    kind: np.ndarray
    index: np.ndarray
    vectors: np.ndarray
    name: np.ndarray
    stderr: np.ndarray | None = None

    def __post_init__(self):
        for field, dtype in {**dict.fromkeys(self._tables, np.float32), "steps": np.int64, **METADATA}.items():
            array: np.ndarray = np.array(getattr(self, field), dtype)
            array.flags.writeable = False
            object.__setattr__(self, field, array)
        if self.values.ndim != 2 or 0 in self.values.shape or self.steps.shape != self.values.shape[1:]:
            raise TrajectoryError(
                f"series: values have shape {self.values.shape} and steps {self.steps.shape}; expected "
                "[n_components, n_steps] and [n_steps], neither empty"
            )
        for field in METADATA:
            shape = getattr(self, field).shape
            if shape != (len(self),):
                raise TrajectoryError(f"series: {field} has shape {shape}; expected ({len(self)},)")
        if (self.steps < 0).any() or (np.diff(self.steps) <= 0).any():
            raise TrajectoryError(f"series: steps must be >= 0 and strictly increasing, got {self.steps.tolist()}")
        if not np.isfinite(self.values).all():
            raise NonFiniteError("series: some scores are NaN or infinite; drop that snapshot or fix its scorer")
        if (self.values < 0).any():
            raise TrajectoryError("series: some scores are negative; take absolute values of signed scores first")
        errors = self.stderr
        if errors is not None and (errors.shape != self.values.shape or ((errors < 0) | np.isinf(errors)).any()):
            raise TrajectoryError(
                f"series: standard errors have shape {errors.shape}; expected {self.values.shape}, each finite "
                "and >= 0, or NaN where unknown"
            )

    def __len__(self) -> int:
        """Number of components."""
        return len(self.values)

    @property
    def cadence(self) -> float:
        """Typical optimizer steps between snapshots: the median gap, 1 for a single snapshot."""
        return float(np.median(np.diff(self.steps))) if len(self.steps) > 1 else 1.0

    def until(self, step: int) -> Series:
        """The snapshots at or before `step`. Raises TrajectoryError if there is none."""
        n = int(np.searchsorted(self.steps, step, side="right"))
        if n == 0:
            raise TrajectoryError(f"no snapshot at or before step {step}; the first is at step {int(self.steps[0])}")
        if n == len(self.steps):
            return self
        return self._with(steps=self.steps[:n], **{field: getattr(self, field)[:, :n] for field in self._tables})

    def take(self, components: Iterable[int] | np.ndarray) -> Series:
        """The given components, in the given order."""
        order = np.asarray(components)
        return self._with(**{field: getattr(self, field)[order] for field in (*self._tables, *METADATA)})

    def extended(self, step: int, values: np.ndarray) -> Series:
        """This series and one more snapshot, `values` [n_components] at `step`; its standard errors are unknown."""
        values = np.asarray(values, np.float32)
        if values.shape != (len(self),):
            raise TrajectoryError(f"snapshot of step {step} has shape {values.shape}; expected ({len(self)},)")
        new = {"values": values, "stderr": np.full(len(self), np.nan)}
        longer = {field: np.column_stack([getattr(self, field), new[field]]) for field in self._tables}
        return self._with(steps=np.append(self.steps, step), **longer)

    def arrays(self) -> dict[str, np.ndarray]:
        """Plain arrays, from which `from_arrays` makes an equal series."""
        plain = {field: getattr(self, field) for field in (*self._tables, "steps")}
        return plain | pack({field: getattr(self, field) for field in METADATA})

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> Series:
        """Inverse of `arrays`. Raises TrajectoryError for missing, unknown or misshapen ones."""
        expected = {"values": np.float32, "steps": np.int64} | ({"stderr": np.float32} if "stderr" in arrays else {})
        rest = {key: array for key, array in arrays.items() if key not in expected}
        for key, dtype in expected.items():
            if key not in arrays or arrays[key].dtype != dtype:
                raise TrajectoryError(f"series: array {key!r} is missing or not {np.dtype(dtype)}")
        return cls(**{key: arrays[key] for key in expected}, **unpack(rest))

    @property
    def _tables(self) -> tuple[str, ...]:
        """The fields of shape [n_components, n_steps]."""
        return ("values",) if self.stderr is None else ("values", "stderr")

    def _with(self, **changes: np.ndarray) -> Series:
        return Series(**{**vars(self), **changes})


def pack(metadata: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Component metadata with its strings as uint8 text. Raises TrajectoryError for a string with a newline."""
    packed = {}
    for field, dtype in METADATA.items():
        if dtype is str:
            entries = [str(entry) for entry in metadata[field]]
            if any("\n" in entry for entry in entries):
                raise TrajectoryError(f"component {field} contains a newline; names must be one line each")
            packed[field] = np.frombuffer("\n".join(entries).encode(), np.uint8).copy()
        else:
            packed[field] = np.asarray(metadata[field], dtype)
    return packed


def unpack(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Inverse of `pack`. Raises TrajectoryError unless the arrays are exactly the metadata, all of one length."""
    if set(arrays) != set(METADATA):
        raise TrajectoryError(f"component arrays are {sorted(arrays)}; expected {sorted(METADATA)}")
    metadata = {}
    for field, dtype in METADATA.items():
        array = arrays[field]
        if array.ndim != 1 or array.dtype != (np.uint8 if dtype is str else dtype):
            raise TrajectoryError(f"component array {field!r} is {array.dtype} {array.shape}; expected one dimension")
        try:
            metadata[field] = np.array(array.tobytes().decode().split("\n")) if dtype is str else array
        except UnicodeDecodeError as error:
            raise TrajectoryError(f"component array {field!r} is not UTF-8 text: {error}") from error
    lengths = {field: len(array) for field, array in metadata.items()}
    if len(set(lengths.values())) != 1:
        raise TrajectoryError(f"component arrays have lengths {lengths}; expected one length")
    return metadata


@dataclass(frozen=True, eq=False)
class Forecast:
    """Scores forecast at step `made_at` for step `for_step`.

    Attributes:
        prediction: float32 [n_components], the forecast scores.
        persistence: float32 [n_components], the last scores seen when the forecast was made.
    """

    made_at: int
    for_step: int
    prediction: np.ndarray
    persistence: np.ndarray
