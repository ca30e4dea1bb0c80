"""The leaderboard of forecasters as a page: what it says in words, then the numbers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from ..common.intervals import Interval
from ..common.numbers import bracketed, number
from ..studies.bench.bench import PRIOR, TWIN
from ..studies.bench.leaderboard import PERSISTENCE, Leaderboard, Standing, sentences
from .page import fill, write_page
from .style import COLOURS, data_uri, figure, styled

YARDSTICK_LABELS = {PRIOR: "layer and kind alone", TWIN: "ceiling: another data order"}
_ROW = 0.28
"""Height of a row of a figure in inches."""


def write_leaderboard(boards: Sequence[Leaderboard], environment: dict[str, str], path: str | Path) -> Path:
    """Write the page, with one board per kind of split; return its path."""
    html = fill(
        "leaderboard.html.j2",
        {"points": _points, "change": _change, "number": _number},
        boards=boards,
        said={board.split: sentences(board) for board in boards},
        figures={b.split: {"gains": data_uri(gains(b)), "questions": data_uri(by_question(b))} for b in boards},
        environment=environment,
        labels=YARDSTICK_LABELS,
        persistence=PERSISTENCE,
        tables={board.split: _tables(board) for board in boards},
    )
    return write_page(Path(path), html)


@styled()
def gains(board: Leaderboard) -> Figure:
    """Gain over persistence with 95 % intervals, one line per forecaster and the ceiling below them."""
    lines = _drawn(board)
    fig = figure(10, _ROW * len(lines) + 1.1)
    axis = fig.subplots()
    axis.axvline(0, color="#777777", linewidth=1.2)
    if board.headroom.mean is not None:
        axis.axvline(100 * board.headroom.mean, color=COLOURS["oracle"], linestyle="--", linewidth=1.2)
    for y, line in enumerate(lines):
        paint = COLOURS["foresight"] if line in board.standings else COLOURS["oracle"]
        ends = line.gain.mean, line.gain.low, line.gain.high
        mean, low, high = (np.nan if end is None else 100 * end for end in ends)
        errors = np.nan_to_num([[mean - low], [high - mean]])
        axis.errorbar([mean], [y], xerr=errors, color=paint, marker="o", markersize=5, capsize=2.5, linewidth=1.6)
    axis.set_yticks(range(len(lines)), [YARDSTICK_LABELS.get(line.forecaster, line.forecaster) for line in lines])
    axis.invert_yaxis()
    axis.grid(axis="y", visible=False)
    axis.set_xlabel("points of the future circuit more than persistence has; dashed: a run with another data order")
    return fig


@styled()
def by_question(board: Leaderboard) -> Figure:
    """Gain over persistence, one row per forecaster and one column per question (cutoff and horizon)."""
    columns, found = _cut(board, "question")
    columns.sort(key=lambda at: [float(share) for share in at.split(" + ")])
    names = [line.forecaster for line in _drawn(board)]
    values = np.array([[100 * found.get((name, at), np.nan) for at in columns] for name in names])
    fig = figure(10, _ROW * len(names) + 1.3)
    axis = fig.subplots()
    most = max(1.0, float(np.nanmax(np.abs(values)))) if np.isfinite(values).any() else 1.0
    image = axis.imshow(values, cmap="RdBu", vmin=-most, vmax=most, aspect="auto")
    for (y, x), value in np.ndenumerate(values):
        if np.isfinite(value):
            paint = "white" if abs(value) > 0.6 * most else "#1c1c1c"
            axis.text(x, y, f"{value:+.1f}", ha="center", va="center", fontsize=8, color=paint)
    axis.set_xticks(range(len(columns)), [_ahead(at) for at in columns])
    axis.set_yticks(range(len(names)), [YARDSTICK_LABELS.get(name, name) for name in names])
    axis.grid(visible=False)
    axis.set_xlabel("seen of the run, and how far ahead")
    fig.colorbar(image, label="points")
    return fig


def _drawn(board: Leaderboard) -> list[Standing]:
    """Leave out persistence, which is zero, and the prior, which lies so far off that it would hide the rest."""
    return [line for line in board.lines if line.forecaster not in (PERSISTENCE, PRIOR)]


def _tables(board: Leaderboard) -> list[tuple[str, list[str], list[tuple[str, list[str]]]]]:
    """Gains by task, model and learning rate: (by, columns, [(forecaster, cells)])."""
    names = [line.forecaster for line in board.lines if line.forecaster != PERSISTENCE]
    tables = []
    for by in ("task", "model", "learning_rate"):
        columns, found = _cut(board, by)
        rows = [(name, [_points(found.get((name, at)), "+.1f") for at in columns]) for name in names]
        tables.append((by.replace("_", " "), columns, rows))
    return tables


def _cut(board: Leaderboard, by: str) -> tuple[list[str], dict[tuple[str, str], float]]:
    """Where gains are known, and (forecaster, where) -> mean gain."""
    found = {(row["forecaster"], row["at"]): row["mean"] for row in board.details if row["by"] == by}
    return sorted({at for _, at in found}), found


def _ahead(at: str) -> str:
    early, ahead = (float(share) for share in at.split(" + "))
    return f"{early:.0%}\n" + ("to the end" if ahead == 1 else f"+{ahead:.0%}")


def _points(share: float | None, form: str = ".1f") -> str:
    return "" if share is None or not np.isfinite(share) else number(100 * share, form)


def _change(interval: Interval) -> str:
    return bracketed(interval.mean, interval.low, interval.high, "+.1f", scale=100)


def _number(value: float | Interval | None, form: str = ".2f") -> str:
    found = value.mean if isinstance(value, Interval) else value
    return "" if found is None else number(found, form)
