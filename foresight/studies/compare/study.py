"""A comparison from its settings to its results: run what is missing, judge, write, and read it back.

results.json                                       settings, versions, keys of the runs, and the summary
runs.parquet, curves.parquet, contrasts.parquet    see `tables`
runs/<key>/result.json                             one record each, from which all of the above is made
"""

from __future__ import annotations

import gc
from collections.abc import Sequence
from dataclasses import asdict, replace
from operator import attrgetter
from pathlib import Path
from typing import Any

from ...common.errors import ConfigError, DataError
from ...common.sealed import read_sealed, write_sealed
from ..ledger import SCHEMA
from ..provenance import environment
from ..runner import RUNS, Runner, Work
from .arms import recorded
from .plan import Plan
from .results import Cell, Measures, Record, read_record
from .settings import CompareConfig
from .summary import Summary, summarise
from .tables import write_tables

RESULTS = "results.json"

MERGED = ("target_tasks", "budgets")
"""Settings in which folders that are reported as one may differ: their lists are joined."""

WHAT = attrgetter("stage", "arm", "task", "model", "seed", "draw", "budget", "memory", "learning_rate")
"""What identifies a run, whatever versions it ran with."""

Comparison = tuple[CompareConfig, Summary, list[Record], dict[str, str]]
"""Settings, summary, records and environment of a comparison."""


def run_comparison(out: str | Path, config: CompareConfig) -> Summary:
    """Run a comparison in the folder `out`, or continue one that was interrupted there, and write its results.

    Raises ConfigError before the first run for what would fail in all of them (see `before`).

    Workers are spawned processes, so a script that calls this needs an ``if __name__ == "__main__":`` guard.
    """
    from .before import check  # of torch and transformers, as trials

    plan = Plan(config)
    check(plan)
    with Runner(Path(out) / RUNS, Work(_work, Cell, Measures), config.workers, plan.total) as runner:
        records = plan.carry_out(runner)
    return write_results(out, config, records)


def write_results(folder: str | Path, config: CompareConfig, records: Sequence[Record]) -> Summary:
    """Summarise the records and write results.json and the tables into the folder; return the summary.

    Raises:
        DiskFullError: no space left; older files stay as they were.
    """
    folder = Path(folder)
    summary = summarise(records, config)
    write_tables(folder, records, summary)
    data = summary.to_json()
    data |= {"config": asdict(config), "environment": environment(), "records": [record.key for record in records]}
    write_sealed(folder / RESULTS, data)
    return summary


def read_comparisons(folders: Sequence[str | Path]) -> Comparison:
    """Read several folders of equal settings as one comparison; see `MERGED` for what may differ.

    Of a run that several folders hold, the first is taken.

    Raises:
        DataError: a folder holds no finished comparison, or one with other settings; the message names them.
    """
    found = [_read(Path(folder)) for folder in folders]
    if not found:
        raise DataError("no folder to read; name at least one folder of `foresight compare`")
    config, _, versions = found[0]
    for (other, _, _), folder in zip(found[1:], folders[1:], strict=True):
        _refuse_different(config, other, folders[0], folder)
    if len(found) > 1:
        joined: dict[str, Any] = {
            name: list(dict.fromkeys(value for other, _, _ in found for value in getattr(other, name)))
            for name in MERGED
        }
        config = replace(config, retained_tasks=config.retained(), **joined)
    distinct: dict[tuple, Record] = {}
    for record in (record for _, part, _ in found for record in part):
        distinct.setdefault(WHAT(record.cell), record)
    records = list(distinct.values())
    return config, summarise(records, config), records, versions


def recorded_settings(data: dict[str, Any]) -> CompareConfig:
    """The settings in results.json. Raises ConfigError for one that cannot be used any more."""
    return CompareConfig(**{**data["config"], "arms": [recorded(entry) for entry in data["config"]["arms"]]})


def _work(cell: Cell, folder: Path) -> Measures:
    from .trial import run_cell  # what a trial needs of torch and transformers is loaded by the workers alone

    if gc.get_freeze_count() == 0:
        gc.freeze()  # the libraries stay: Trainer collects garbage after every run, and need not look through them
    return run_cell(cell, folder)


def _read(folder: Path) -> tuple[CompareConfig, list[Record], dict[str, str]]:
    path = folder / RESULTS
    try:
        data: dict[str, Any] = read_sealed(path)
        if data["schema"] != SCHEMA:
            raise DataError(f"{path} has schema {data['schema']}, expected {SCHEMA}; run the comparison again")
        config, keys, versions = recorded_settings(data), data["records"], dict(data["environment"])
        records = [record for key in keys if (record := read_record(folder / RUNS / key))]
    except ConfigError as error:
        raise DataError(f"the settings in {path} cannot be used here: {error}") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path} is not the result of a finished comparison ({error}); run `foresight compare` into that folder"
        ) from error
    if len(records) < len(keys):
        raise DataError(f"{folder} lacks {len(keys) - len(records)} of its {len(keys)} runs; run it again")
    return config, records, versions


def _refuse_different(first: CompareConfig, other: CompareConfig, where: str | Path, there: str | Path) -> None:
    given, others = (asdict(config) | {"retained_tasks": config.retained()} for config in (first, other))
    for name in given:
        if name not in (*MERGED, "workers") and given[name] != others[name]:
            raise DataError(
                f"{there} has another {name} than {where} ({others[name]!r}, not {given[name]!r}); only comparisons of "
                f"equal settings are reported as one ({', '.join(MERGED)} may differ)"
            )
