"""The tables of a comparison, as Parquet with a typed schema: a row per run, per evaluation of a run, per contrast."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ...common.files import write_whole
from ...common.intervals import Interval
from ...common.numbers import json_rows
from ..ledger import SCHEMA
from .measures import MEASURES
from .part import broken
from .results import Record
from .summary import Summary

Row = dict[str, Any]

_TEXT, _COUNT, _NUMBER = pa.string(), pa.int64(), pa.float64()
_CELL = {
    "key": _TEXT, "stage": _TEXT, "arm": _TEXT, "task": _TEXT, "model": _TEXT, "seed": _COUNT, "draw": _COUNT,
    "budget": _NUMBER, "memory": _TEXT, "learning_rate": _NUMBER, "method": _TEXT,
}  # fmt: skip
_OWN = {
    "steps_to_target": _NUMBER, "chance": _NUMBER, "train_seconds": _NUMBER, "scoring_seconds": _NUMBER,
    "peak_bytes": _COUNT, "trainable": _COUNT, "model_parameters": _COUNT, "touched": _COUNT, "words": _TEXT,
}  # fmt: skip
_POINT = {"step": _COUNT, "loss": _NUMBER, "accuracy": _NUMBER, "retained_loss": _NUMBER, "retained_accuracy": _NUMBER}

SCHEMAS = {
    name: pa.schema(list(columns.items()), {"foresight_schema": str(SCHEMA)})
    for name, columns in {
        "runs": _CELL | {"error": _TEXT, "broken": _TEXT} | dict.fromkeys(MEASURES, _NUMBER) | _OWN,
        "curves": _CELL | _POINT,
        "contrasts": {
            "budget": _NUMBER, "a": _TEXT, "b": _TEXT, "measure": _TEXT, "mean": _NUMBER, "low": _NUMBER,
            "high": _NUMBER, "runs": _COUNT, "units": _COUNT, "method": _TEXT, "p": _NUMBER, "p_holm": _NUMBER,
            "outcome": _TEXT, "unmatched": _COUNT,
        },
    }.items()
}  # fmt: skip
"""Table -> its columns; of a row, only these are written. In `contrasts`, the row of the primary contrast has
a = "primary", and higher is better."""


def write_tables(folder: Path, records: Sequence[Record], summary: Summary) -> None:
    """Write runs.parquet, curves.parquet and contrasts.parquet."""
    rows = {"runs": run_rows(records), "curves": curve_rows(records), "contrasts": contrast_rows(summary)}
    for name, found in rows.items():
        table = pa.Table.from_pylist(json_rows(found), SCHEMAS[name])
        write_whole(folder / f"{name}.parquet", partial(pq.write_table, table))


def run_rows(records: Sequence[Record]) -> Iterable[Row]:
    """A row per run, of every stage."""
    lost = broken([r for r in records if r.cell.stage == "score"])
    for record in records:
        how = lost[record.key].how if record.key in lost else None
        found = {key: measure.read(record) for key, measure in MEASURES.items()}
        measured = vars(record.measures) if record.measures else {}
        yield {**_cell(record), **measured, **found, "error": record.error, "broken": how}


def curve_rows(records: Iterable[Record]) -> Iterable[Row]:
    """A row per run and evaluation."""
    for record in records:
        for point in record.measures.curve if record.measures else ():
            yield {**_cell(record), **vars(point)}


def contrast_rows(summary: Summary) -> Iterable[Row]:
    """The primary contrast of every budget, then its secondary ones."""
    for part in summary.budgets:
        verdict = part.verdict
        if verdict.gain:
            yield {
                "budget": part.budget, "a": "primary", "b": "best of the baselines", "measure": summary.measure,
                **_interval(verdict.gain.nested), "p": verdict.gain.p, "p_holm": part.p_holm,
                "outcome": verdict.outcome, "unmatched": 0,
            }  # fmt: skip
        for contrast in part.contrasts:
            yield {"budget": part.budget, **vars(contrast), **_interval(contrast.interval)}


def _interval(of: Interval) -> Row:
    return {"runs": of.n, **vars(of)}


def _cell(record: Record) -> Row:
    return {"key": record.key, **vars(record.cell)}
