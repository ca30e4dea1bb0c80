"""The report of `foresight track`: the answers in words, then figures and tables."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ..common.errors import TrajectoryError
from ..common.intervals import mean_interval
from ..common.numbers import number
from ..common.sealed import read_sealed
from ..studies.ledger import RESULT
from ..studies.runner import RUNS
from ..studies.track.analysis import FOLDER, NAMES, SCORES, read_table
from ..studies.track.answers import answer, between_seeds, columns_of
from ..studies.track.settings import STRATEGIES
from ..studies.track.study import STUDY
from ..studies.track.tables import Row, Tables, grouped, values, where
from ..studies.track.words import decided, points, questions, share, spread
from . import tracking_figures as plots
from .page import REPORT, fill, listed, write_page
from .style import data_uri
from .tracking_maps import ScoreMap, comings_and_goings, heatmap, read_map


def write_report(folder: str | Path) -> Path:
    """Write report.html for a study from its tables (see `foresight.studies.track.analysis`); return its path.

    Raises:
        TrajectoryError: the folder has no study, or one that was not analysed.
    """
    folder = Path(folder)
    tables = {name: read_table(folder, name) for name in NAMES}
    try:
        settings = read_sealed(folder / STUDY)
        first = next(iter(sorted((folder / RUNS).glob(f"*/{RESULT}"))), None)
        environment = read_sealed(first)["environment"] if first else {}
    except (OSError, ValueError, KeyError) as error:
        raise TrajectoryError(f"{folder} holds no complete study ({error!r}); run or resume it") from error
    maps = [read_map(folder / FOLDER / f"{SCORES}.parquet", **run) for run in mapped(tables)]
    return write_page(folder / REPORT, render(tables, maps, settings, environment))


def mapped(tables: Tables) -> list[Row]:
    """Choose the task, strategy, seed and scorer whose components are shown: one per task, strategy free if it ran."""
    rows = [row for row in tables["staleness"] if row["circuit_of"] == row["task"]]
    rows.sort(key=lambda r: (r["strategy"] != "free", r["seed"]))  # stable: first scorer first
    first = [of_task[0] for _, of_task in grouped(rows, "task")]
    return [{name: row[name] for name in ("task", "strategy", "seed", "scorer")} for row in first]


def render(tables: Tables, maps: Sequence[ScoreMap], settings: dict[str, Any], environment: dict[str, str]) -> str:
    """Return the page as text. All values are escaped.

    Args:
        tables: as `foresight.studies.track.analysis.tabulate` makes them.
        maps: the runs whose components are shown.
        settings: part -> setting -> value.
    """
    answers, cost = answer(tables), tables["cost"]
    scorers = values(tables["staleness"], "scorer")
    verdicts = ("above zero", "below zero", "within the noise", "no interval", "too few units")
    filters: dict[str, Callable[..., str]] = {
        "number": number, "spread": spread, "points": points, "share": share,
        "verdict": lambda row: decided(row, *verdicts),
    }  # fmt: skip
    return fill(
        "tracking.html.j2",
        filters,
        questions=questions(answers),
        answers=answers,
        scorer=scorers[0] if scorers else None,
        scorers=scorers,
        tasks=values(cost, "task"),
        strategies=values(cost, "strategy"),
        seeds=len(values(cost, "seed")),
        runs=len(cost),
        policies=STRATEGIES,
        colours={strategy: plots.colour(strategy) for strategy in values(cost, "strategy")},
        before=_before(tables["metrics"]),
        outcome={(r["metric"], r["strategy"], r["minus"]): r for r in answers["outcome"]},
        boolean={(row["dropped"], row["kept"]): row for row in where(tables["boolean"], seed=None)},
        areas=areas(tables["curves"]),
        tuned=_tuned(tables["signs"]),
        steps=sorted(values(tables["staleness"], "step")),
        trainable={row["strategy"]: f"{row['trainable']:,}" for row in cost if not row["error"]},
        folder=FOLDER,
        settings={part: listed(of_part) for part, of_part in settings.items()},
        environment=environment,
        maps=[(m, data_uri(heatmap(m)), data_uri(comings_and_goings(m)) if len(m.steps) > 1 else None) for m in maps],
        figures={name: data_uri(figure) for name, figure in _figures(tables, answers).items()},
        measures=plots.MEASURES,
    )  # fmt: skip


def _figures(tables: Tables, answers: Tables) -> dict[str, Any]:
    """Draw what was measured, of the first scorer and of the circuits of the tasks that runs were trained on."""
    found: dict[str, Any] = {}
    first = {"scorer": tables["staleness"][0]["scorer"]} if tables["staleness"] else {}
    own = {name: [r for r in where(tables[name], **first) if r["circuit_of"] == r["task"]]
           for name in ("distance", "between", "stability")}  # fmt: skip
    if since_start := where(own["distance"], since="start"):
        moves = where(answers["moves"], **first)
        found = {name: plots.distances(since_start, own["between"], moves, name) for name in plots.MEASURES}
        found["staleness"] = plots.staleness(where(answers["staleness"], **first))
    if own["stability"]:
        found["stability"] = plots.stability(own["stability"])
    if answers["conflict"]:
        found["conflict"] = plots.conflict(answers["conflict"])
    if trained := [r for r in tables["curves"] if r["task"] in (None, r["circuit_of"])]:
        found["curves"] = plots.curves(trained)
    return found


def _before(rows: Sequence[Row]) -> float | None:
    """Average the accuracy before training over tasks; all runs have the same base model."""
    start = {row["task"]: row["accuracy"] for row in rows if row["step"] == 0 and row["measured_task"] == row["task"]}
    return sum(start.values()) / len(start) if start else None


def areas(rows: Sequence[Row]) -> list[Row]:
    """CPR and CMD with intervals over tasks: before training, and at the end of each strategy's runs."""
    known = [r for r in rows if r["value"] is not None and r["task"] in (None, r["circuit_of"])]
    found = []
    for model in sorted(values(known, "strategy"), key=lambda model: model is not None):
        row: Row = {"model": model or "before training"}
        for name in ("cpr", "cmd"):
            here = where(known, strategy=model, measure=name)
            row[name] = columns_of(mean_interval({(r["circuit_of"], r["seed"] or 0): r["value"] for r in here}))
        found.append(row)
    return found


def _tuned(rows: Sequence[Row]) -> list[Row]:
    """Sign conflict on tuned models by strategy and pair of tasks: how many runs exceed the floor, and means."""
    known = [row | {"pair": ", ".join(sorted((row["task_a"], row["task_b"])))} for row in rows
             if row["seed"] is not None and row["value"] is not None]  # fmt: skip
    found = []
    for group, here in grouped(known, "strategy", "pair"):
        mean = {name: sum(r[name] for r in here) / len(here) for name in ("value", "floor", "floor_high")}
        beyond = sum(r["value"] > r["floor_high"] for r in here)
        runs = {"beyond": beyond, "runs": len(here), "between_runs": between_seeds(here, "value")}
        found.append(group | runs | mean)
    return found
