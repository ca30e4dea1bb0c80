"""The analysis of a study: its recordings as tables (Parquet) and answers (JSON) in OUT/analysis.

distance, staleness, between, stability, scores, metrics, cost .parquet    see `tables`
signs, boolean, curves .parquet                                            see `measured`
answers.json                                                               see `answers`, with the sentences
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ...common.errors import TrajectoryError
from ...common.files import write_whole
from ...common.numbers import json_rows
from ...common.sealed import read_sealed, write_sealed
from . import tables
from .answers import answer
from .cells import MEASURED, Record, recording_of
from .recording import Recording
from .study import Study
from .words import sentences

FOLDER, ANSWERS = "analysis", "answers.json"
NAMES = ("distance", "staleness", "between", "stability", "metrics", "cost", "signs", "boolean", "curves")
SCORES = "scores"
"""The one table that grows with components x snapshots x runs; it is written run by run and never held in memory."""


def tabulate(study: Study) -> tables.Tables:
    """All tables of a study except the scores, by name: lists of flat rows. Failed runs appear in `cost` only. Raises
    TrajectoryError if no run has finished, or a recording is damaged.
    """
    if not study.results:
        raise TrajectoryError(f"{study.folder} holds no finished run; run the study, or continue it with --resume")
    found: tables.Tables = {name: [] for name in NAMES} | {"cost": tables.cost_rows(study.results)}
    tracks = []
    for result, recording in _recorded(study):
        found["metrics"] += tables.metric_rows(result, recording)
        for track in tables.tracks_of(result, recording):
            tracks.append(replace(track, samples=track.samples.mean(1, keepdims=True)))  # enough for `between_rows`
            found["distance"] += tables.distance_rows(track)
            found["staleness"] += tables.staleness_rows(track)
            found["stability"] += tables.stability_rows(track, recording)
        _add_measured(found, study.path(result.cell), result.cell.names)
    found["between"] = tables.between_rows(tracks)
    _add_measured(found, study.folder, {"task": None, "strategy": None, "seed": None})
    return found


def _add_measured(found: tables.Tables, folder: Path, labels: tables.Row) -> None:
    """Add the rows of measured.json, if it exists: of a run's final model, or of the base model (labels are null)."""
    path = folder / MEASURED
    if not path.exists():
        return
    try:
        for name, rows in read_sealed(path).items():
            found[name] += [labels | row for row in rows]
    except (ValueError, KeyError, AttributeError) as error:
        raise TrajectoryError(f"{path} is damaged ({error!r}); delete it and resume") from error


def _recorded(study: Study) -> Iterator[tuple[Record, Recording]]:
    return ((result, recording_of(study.path(result.cell))) for result in study.results if not result.failed)


def _write_scores(study: Study, path: Path) -> None:
    tracks = (track for result, recording in _recorded(study) for track in tables.tracks_of(result, recording))
    parts = map(tables.score_table, tracks)
    first = next(parts)
    with pq.ParquetWriter(path, first.schema) as writer:
        for table in chain([first], parts):
            writer.write_table(table)


def analyse(study: Study) -> tables.Tables:
    """Make the tables, answer the questions, and write both into the study's folder. Raises as `tabulate`."""
    found, folder = tabulate(study), study.folder / FOLDER
    answers = answer(found)
    for name, rows in found.items():
        write_whole(folder / f"{name}.parquet", partial(pq.write_table, pa.Table.from_pylist(rows)))
    if any(_recorded(study)):
        write_whole(folder / f"{SCORES}.parquet", partial(_write_scores, study))
    plain = {name: json_rows(rows) for name, rows in answers.items()}  # undefined numbers become null
    write_sealed(folder / ANSWERS, {"sentences": sentences(answers), **plain})
    return answers


def read_table(folder: str | Path, name: str) -> list[tables.Row]:
    """One of the tables that `analyse` wrote. Raises TrajectoryError if it cannot be read."""
    path = Path(folder) / FOLDER / f"{name}.parquet"
    try:
        return pq.read_table(path).to_pylist()
    except (OSError, pa.ArrowException) as error:
        raise TrajectoryError(f"{path} cannot be read ({error}); run `foresight track --resume` to make it") from error
