"""The report of `foresight track`: the answers in words, then figures and tables."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from ..common.errors import TrajectoryError
from ..common.intervals import Interval, mean_interval
from ..common.numbers import DASH, number
from ..studies.ledger import RESULT
from ..studies.runner import RUNS
from ..studies.track.analysis import FOLDER, NAMES, SCORES, read_table
from ..studies.track.answers import Answers, Tables, answer, between_seeds
from ..studies.track.settings import STRATEGIES
from ..studies.track.study import STUDY
from ..studies.track.tables import Row
from ..studies.track.words import decided, points, questions, share, spread
from . import tracking_figures as plots
from . import tracking_matrices as matrices
from .page import REPORT, fill, listed, write_page
from .style import data_uri
from .tracking_maps import ScoreMap, comings_and_goings, heatmap, in_words, read_map, strongest


@dataclass(frozen=True)
class Picture:
    """A figure of the page: a data URI, a description for readers who cannot see it, and its caption."""

    uri: str
    alt: str
    caption: str


def write_report(folder: str | Path, out: str | Path | None = None) -> Path:
    """Write the page of an analysed study from its tables; return its path.

    Args:
        folder: of the study, with its analysis (see `foresight.studies.track.analysis`).
        out: the file to write; by default report.html in `folder`.

    Raises:
        TrajectoryError: the folder has no study, or one that was not analysed.
    """
    folder = Path(folder)
    tables = {name: read_table(folder, name) for name in NAMES}
    try:
        settings = json.loads((folder / STUDY).read_text())
        first = next(iter(sorted((folder / RUNS).glob(f"*/{RESULT}"))), None)
        environment = json.loads(first.read_text())["environment"] if first else {}
    except (OSError, ValueError, KeyError) as error:
        raise TrajectoryError(f"{folder} holds no complete study ({error!r}); run or resume it") from error
    maps = [read_map(folder / FOLDER / f"{SCORES}.parquet", *run) for run in mapped(tables)]
    return write_page(Path(out or folder / REPORT), render(tables, maps, settings, environment))


def mapped(tables: Tables) -> list[tuple[str, str, int, str]]:
    """Choose the (task, strategy, seed, scorer) whose components are shown: one per task, strategy free if it ran."""
    chosen: dict[str, tuple[str, str, int, str]] = {}
    rows = [row for row in tables["staleness"] if row["circuit_of"] == row["task"]]
    for row in sorted(rows, key=lambda r: (r["strategy"] != "free", r["seed"])):  # stable: first scorer first
        chosen.setdefault(row["task"], (row["task"], row["strategy"], row["seed"], row["scorer"]))
    return list(chosen.values())


def render(tables: Tables, maps: Sequence[ScoreMap], settings: dict[str, Any], environment: dict[str, str]) -> str:
    """Return the page as text. All values are escaped.

    Args:
        tables: as `foresight.studies.track.analysis.tabulate` makes them.
        maps: the runs whose components are shown.
        settings: part -> setting -> value.
        environment: versions of the libraries and the machine.
    """
    answers = answer(tables)
    scorers = plots.values(tables["staleness"], "scorer")
    filters: dict[str, Callable[..., str]] = {
        "number": number, "spread": spread, "points": points, "share": share, "verdict": _verdict, "dash": _or_dash
    }  # fmt: skip
    return fill(
        "tracking.html.j2",
        filters,
        questions=questions(answers),
        answers=answers,
        scorer=scorers[0] if scorers else None,
        scorers=scorers,
        tasks=list(dict.fromkeys(row["task"] for row in tables["cost"])),
        strategies=list(dict.fromkeys(row["strategy"] for row in tables["cost"])),
        seeds=len({row["seed"] for row in tables["cost"]}),
        runs=len(tables["cost"]),
        policies=STRATEGIES,
        colours={row["strategy"]: plots.colour(row["strategy"]) for row in tables["cost"]},
        before=_before(tables["metrics"]),
        outcome={(r["metric"], r["strategy"], r["minus"]): r for r in answers.outcome},
        boolean=_boolean(tables["boolean"]),
        areas=areas(tables["curves"]),
        tuned=_tuned(tables["signs"]),
        steps=sorted({row["step"] for row in tables["staleness"]}),
        trainable={row["strategy"]: f"{row['trainable']:,}" for row in tables["cost"] if not row["error"]},
        folder=FOLDER,
        settings={part: listed(values) for part, values in settings.items()},
        environment=environment,
        **_figures(tables, answers, maps, scorers),
    )  # fmt: skip


def _figures(tables: Tables, answers: Answers, maps: Sequence[ScoreMap], scorers: Sequence[str]) -> dict[str, Any]:
    def picture(draw: Callable[[], Figure], alt: str, caption: str = "") -> Picture:
        return Picture(data_uri(draw()), alt, caption)

    found: dict[str, Any] = {"distances": [], "movement": None, "staleness": None, "stability": None, "conflict": None,
                             "curves": None}  # fmt: skip
    first = scorers[0] if scorers else None
    own = {name: [r for r in tables[name] if r["circuit_of"] == r["task"] and r["scorer"] == first]
           for name in ("distance", "between", "stability")}  # fmt: skip
    since_start = [row for row in own["distance"] if row["since"] == "start"]
    if since_start:
        for measure, title in plots.MEASURES.items():
            rows = [r for r in answers.moves if (r["scorer"], r["measure"]) == (first, measure)]
            found["distances"].append(picture(
                partial(plots.distances, since_start, own["between"], measure),
                f"{title} of circuits from step 0 over steps, by kind, with two noise floors. {_last(rows, _far)}",
                title,
            ))  # fmt: skip
        rows = [r for r in answers.moves if (r["scorer"], r["measure"]) == (first, "jaccard")]
        found["movement"] = picture(
            partial(plots.movement, answers, str(first)),
            f"Movement alone by kind over steps, with 95 % intervals. {_last(rows, _alone)}",
        )
        found["staleness"] = picture(
            partial(plots.staleness, answers, str(first)),
            "Overlap of the step-0 map with the circuit over steps, compared with a fresh map and chance. "
            + _last([r for r in answers.staleness if r["scorer"] == first], _old),
        )
    if own["stability"]:
        worth = "; ".join(f"{r['strategy']}, step {r['step']}: {number(r['ratio'])} (floor {number(r['floor'])})"
                          for r in answers.stability if r["scorer"] == first)  # fmt: skip
        found["stability"] = picture(
            partial(matrices.stability, own["stability"]),
            "Stability matrices, steps of circuits by steps of models. Ratio of the step-0 circuit: "
            + (worth or "not measured"),
        )
    if answers.conflict:
        found["conflict"] = picture(
            partial(matrices.conflict, answers.conflict),
            "Conflict of tasks as matrix and graph: "
            + "; ".join(f"{r['task_a']} and {r['task_b']} {number(r['value'])} (95 % of halves below "
                        f"{number(r['floor_high'])})" for r in answers.conflict),
        )  # fmt: skip
    if trained := [r for r in tables["curves"] if r["task"] in (None, r["circuit_of"])]:
        found["curves"] = picture(
            partial(plots.curves, trained),
            "Faithfulness of circuits over their size, by task, before and after training. "
            + "; ".join(f"{r['model']}: CPR {spread(r['cpr'], '.2f')}" for r in areas(tables["curves"])),
        )
    found["heatmaps"] = [picture(
        partial(heatmap, m),
        f"Scores of all components over steps for {m.task}. Largest at step {m.steps[0]}: "
        f"{', '.join(strongest(m, 0))}; at step {m.steps[-1]}: {', '.join(strongest(m, -1))}.",
        f"{m.task} ({m.strategy}, seed {m.seed})",
    ) for m in maps]  # fmt: skip
    found["comings"] = [picture(
        partial(comings_and_goings, m),
        f"Components in the circuit of {m.task} by snapshot: {in_words(m)}.",
        f"{m.task} ({m.strategy}, seed {m.seed}): {in_words(m)}.",
    ) for m in maps if len(m.steps) > 1]  # fmt: skip
    return found


def _last(rows: Sequence[Row], say: Callable[[Row], str]) -> str:
    last = max((row["step"] for row in rows), default=0)
    return f"At step {last}: " + "; ".join(f"{r['strategy']}, {say(r)}" for r in rows if r["step"] == last)


def _far(row: Row) -> str:
    return f"{row['kind']} {number(row['distance'], '.3f')} (halves {number(row['floor'], '.3f')})"


def _alone(row: Row) -> str:
    return f"{row['kind']} {spread(row)}"


def _old(row: Row) -> str:
    return f"overlap {number(row['across'])} (fresh {number(row['ceiling'])}, chance {number(row['chance'])})"


def _before(rows: Sequence[Row]) -> float | None:
    """Average the accuracy before training over tasks; all runs have the same base model."""
    start = {row["task"]: row["accuracy"] for row in rows if row["step"] == 0 and row["measured_task"] == row["task"]}
    return sum(start.values()) / len(start) if start else None


def areas(rows: Sequence[Row]) -> list[Row]:
    """CPR and CMD with intervals over tasks: before training, and at the end of each strategy's runs."""
    known = [r for r in rows if r["value"] is not None and r["task"] in (None, r["circuit_of"])]
    found = []
    for model in sorted(plots.values(known, "strategy"), key=lambda model: model is not None):
        row: Row = {"model": model or "before training"}
        for name in ("cpr", "cmd"):
            here = [r for r in known if (r["strategy"], r["measure"]) == (model, name)]
            row[name] = _spread(mean_interval({(r["circuit_of"], r["seed"] or 0): r["value"] for r in here}))
        found.append(row)
    return found


def _boolean(rows: Sequence[Row]) -> dict[str, Any]:
    """Boolean counts on the base model: tasks, and (dropped, kept) -> row."""
    base = [row for row in rows if row["seed"] is None]
    cells = {(row["dropped"], row["kept"]): row for row in base}
    return {"tasks": plots.values(base, "dropped"), "cells": cells, "diagonal": any(a == b for a, b in cells)}


def _tuned(rows: Sequence[Row]) -> list[Row]:
    """Sign conflict on tuned models by strategy and pair of tasks: how many runs exceed the floor, and means."""
    found = []
    known = [row for row in rows if row["seed"] is not None and row["value"] is not None]
    for strategy in plots.values(known, "strategy"):
        for a, b in combinations(dict.fromkeys(r[k] for r in known for k in ("task_a", "task_b")), 2):
            here = [r for r in known if r["strategy"] == strategy and {r["task_a"], r["task_b"]} == {a, b}]
            if here:
                mean = {name: sum(r[name] for r in here) / len(here) for name in ("value", "floor", "floor_high")}
                beyond = sum(r["value"] > r["floor_high"] for r in here)
                found.append({"strategy": strategy, "pair": f"{a}, {b}", "beyond": beyond, "runs": len(here),
                              "between_runs": between_seeds(here, "value")} | mean)  # fmt: skip
    return found


def _spread(interval: Interval) -> Row:
    return {"mean": interval.mean, "interval_low": interval.low, "interval_high": interval.high}


def _verdict(row: Row) -> str:
    return decided(row, "above zero", "below zero", "within the noise", "no interval", "too few units")


def _or_dash(text: object) -> str:
    return DASH if text is None else str(text)
