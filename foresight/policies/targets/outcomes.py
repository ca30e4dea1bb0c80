"""What masks of past runs have led to, in one small JSON file: the material that the value of a mask is learned from.

The file has the component tables once each and a row a run: its group (a task), the names of the components that were
trained, the scores before training, and the outcome. Runs of one group, of any models, are compared with each other.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...common.errors import ConfigError, NonFiniteError, TrajectoryError
from ...common.files import write_json
from ...masks.masks import Mask
from ...trajectory.series import METADATA, Series

VERSION = 1


@dataclass(frozen=True)
class Outcome:
    """One run that kept its mask.

    Attributes:
        group: its task; outcomes are comparable within a group only.
        before: the components' scores before training, a series of one snapshot.
        mask: what was trained, as positions in `before`.
        outcome: how it went, the lower the better, such as the area under the log loss.
    """

    group: str
    before: Series
    mask: Mask
    outcome: float


def write_outcomes(path: str | Path, outcomes: Iterable[Outcome]) -> None:
    """Write outcomes; `read_outcomes` gives them back, scores as float32.

    Raises:
        ValueError: an outcome is NaN or infinite.
    """
    tables: list[dict[str, list[Any]]] = []
    rows = []
    for one in outcomes:
        table = {field: getattr(one.before, field).tolist() for field in METADATA}
        if table not in tables:
            tables.append(table)
        rows.append(
            {
                "group": one.group,
                "table": tables.index(table),
                "mask": one.before.name[list(one.mask.components)].tolist(),
                "scores": one.before.values[:, 0].tolist(),
                "outcome": float(one.outcome),
            }
        )
    write_json(path, {"version": VERSION, "tables": tables, "runs": rows})


def read_outcomes(path: str | Path) -> list[Outcome]:
    """Inverse of `write_outcomes`. Raises ConfigError for anything else."""
    try:
        data = json.loads(Path(path).read_text())
        if data["version"] != VERSION:
            raise ValueError(f"version {data['version']}, expected {VERSION}")
        return [_read(row, data["tables"]) for row in data["runs"]]
    except (OSError, ValueError, KeyError, IndexError, TypeError, TrajectoryError, NonFiniteError) as error:
        raise ConfigError(
            f"{path} is no file of outcomes ({error!r:.300}); expected one that write_outcomes has written"
        ) from error


def _read(row: dict[str, Any], tables: list[dict[str, list[Any]]]) -> Outcome:
    if not 0 <= row["table"] < len(tables):
        raise ValueError(f"table {row['table']} of {len(tables)}")
    table = tables[row["table"]]
    before = Series(values=np.array(row["scores"])[:, None], steps=np.zeros(1), **{f: table[f] for f in METADATA})
    place = {name: i for i, name in enumerate(before.name.tolist())}
    outcome = float(row["outcome"])
    if not math.isfinite(outcome) or not row["mask"]:
        raise ValueError(f"outcome {outcome} of a mask of {len(row['mask'])} components")
    return Outcome(str(row["group"]), before, Mask.of(place[name] for name in row["mask"]), outcome)
