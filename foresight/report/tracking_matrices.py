"""The matrices of a tracking study: stability between steps, and conflict between tasks, also as a graph."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..common.numbers import number
from ..studies.track.tables import Row
from .style import figure, styled
from .tracking_figures import MOST_LABELS, mean_of, values

BEYOND = "#d55e00"
MOST_TASKS = 9
"""Up to this many tasks, cells of a conflict matrix are labelled and pairs within the noise are drawn."""
STABILITY: dict[str, tuple[str, str, float, float, Callable[[float], float]]] = {
    "ratio": ("ratio to t's own circuit", "PuOr", 0, 2, lambda value: value - 1),
    "faithfulness": ("faithfulness of s at t", "Blues", 0, 1.2, lambda value: 0.0),
    "rank_distance": ("rank distance of s and t", "Blues", 0, 1, lambda value: value),
}
"""Measure -> title, colour map, its range, and the deviation that is compared with the floor (0: none is)."""


@styled()
def stability(rows: Sequence[Row]) -> Figure:
    """Matrices s x t of means over runs: one row of panels per strategy, one column per measure.

    Args:
        rows: of the table `stability`, by one scorer; from each run, those of the task that it was trained on.
    """
    strategies, measures = values(rows, "strategy"), [name for name in STABILITY if name in values(rows, "measure")]
    fig = figure(10, 3.3 * len(strategies) + 0.2)
    axes = fig.subplots(len(strategies), len(measures), squeeze=False)
    for strategy, line in zip(strategies, axes, strict=True):
        for measure, axis in zip(measures, line, strict=True):
            here = [r for r in rows if (r["strategy"], r["measure"]) == (strategy, measure)]
            _matrix(axis, here, measure)
            axis.set_title(f"{strategy}: {STABILITY[measure][0]}")
    return fig


def _matrix(axis: Axes, rows: Sequence[Row], measure: str) -> None:
    _, colours, least, most, deviation = STABILITY[measure]
    steps = sorted({r["s"] for r in rows} | {r["t"] for r in rows})
    cells: dict[tuple[int, int], list[Row]] = {}
    for r in rows:
        if np.isfinite(r["value"]):
            cells.setdefault((steps.index(r["s"]), steps.index(r["t"])), []).append(r)
    image = np.full((len(steps), len(steps)), np.nan)
    for at, here in cells.items():
        image[at] = mean_of(r["value"] for r in here)
    shown = axis.imshow(image, cmap=colours, vmin=least, vmax=most)
    for (i, j), here in cells.items():
        above, below = (sum(sign * deviation(r["value"]) > r["floor_high"] for r in here) for sign in (1, -1))
        text = "\N{BULLET}" if 2 * max(above, below) > len(here) else ""
        if len(steps) <= MOST_LABELS:
            text = f"{number(image[i, j])}{text}\n({number(mean_of(r['floor'] for r in here))})"
        red, green, blue, _ = shown.cmap(shown.norm(image[i, j]))
        dark = 0.3 * red + 0.59 * green + 0.11 * blue < 0.5
        axis.text(j, i, text, ha="center", va="center", color="white" if dark else "black",
                  fontsize=8.5 if len(steps) < 5 else 6.5)  # fmt: skip
    every = -(-len(steps) // MOST_LABELS)
    ticks = range(0, len(steps), every)
    axis.set_xticks(ticks, [str(steps[i]) for i in ticks])
    axis.set_yticks(ticks, [str(steps[i]) for i in ticks])
    axis.set_xlabel("t: step of the model")
    axis.set_ylabel("s: step of the circuit")
    axis.grid(visible=False)


@styled()
def conflict(rows: Sequence[Row]) -> Figure:
    """Sign conflict of every pair of tasks on the base model, as a matrix with floors and as a graph.

    Args:
        rows: of `Answers.conflict`.
    """
    tasks = list(dict.fromkeys(name for row in rows for name in (row["task_a"], row["task_b"])))
    n = len(tasks)
    fig = figure(10, 4.6)
    left, right = fig.subplots(1, 2)
    image = np.full((n, n), np.nan)
    for row in rows:
        i, j = tasks.index(row["task_a"]), tasks.index(row["task_b"])
        image[i, j] = image[j, i] = row["value"]
        text = f"{row['value']:.2f}\n({row['floor_high']:.2f})"
        if n > MOST_TASKS:
            text = "\N{BULLET}" if row["beyond_floor"] else ""
        for x, y in ((i, j), (j, i)):
            left.text(x, y, text, ha="center", va="center", fontsize=8.5 if n <= 6 else 6.5,
                      color="white" if row["value"] > 0.55 else "black",
                      fontweight="bold" if row["beyond_floor"] else "normal")  # fmt: skip
    left.imshow(image, cmap="Blues", vmin=0, vmax=1)
    left.set_xticks(range(n), tasks, rotation=40, ha="right", rotation_mode="anchor")
    left.set_yticks(range(n), tasks)
    sign = "in brackets: 95 % of halves lie below" if n <= MOST_TASKS else "dot: beyond the floor"
    left.set_title(f"Conflict ({sign})")
    left.grid(visible=False)
    _graph(right, tasks, rows)
    return fig


def _graph(axis: Axes, tasks: Sequence[str], rows: Sequence[Row]) -> None:
    angles = np.pi / 2 - 2 * np.pi * np.arange(len(tasks)) / len(tasks)
    place = {task: np.array([np.cos(a), np.sin(a)]) for task, a in zip(tasks, angles, strict=True)}
    for row in sorted(rows, key=lambda r: r["beyond_floor"]):
        a, b = place[row["task_a"]], place[row["task_b"]]
        beyond, many = row["beyond_floor"], len(tasks) > MOST_TASKS
        if many and not beyond:
            continue
        line = np.stack([a, b], 1)
        if beyond:
            axis.plot(*line, color=BEYOND, linewidth=(1 + 4 * row["value"]) / (1 + many), zorder=2)
        else:
            axis.plot(*line, color="#9a9a9a", linestyle=":", linewidth=0.6 + 1.2 * row["value"], zorder=1)
        if len(tasks) <= (MOST_TASKS if beyond else 4):
            x, y = a + 0.36 * (b - a)  # off the middle, where edges cross
            axis.text(x, y, f"{row['value']:.2f}", ha="center", va="center", fontsize=9, zorder=4,
                      color="black" if beyond else "#6a6a6a",
                      bbox={"facecolor": "white", "edgecolor": "none", "pad": 1})  # fmt: skip
    for task, (x, y) in place.items():
        axis.scatter(x, y, s=70, color="#1a1a1a", zorder=5)
        side = "center" if abs(x) < 0.2 else "left" if x > 0 else "right"
        axis.text(1.1 * x, 1.13 * y, task, ha=side, va="center", fontsize=9.5)
    axis.set_xlim(-1.9, 1.9)
    axis.set_ylim(-1.3, 1.3)
    axis.set_axis_off()
    axis.set_title("Solid: beyond the floor" + ("; dotted: within the noise" if len(tasks) <= MOST_TASKS else ""))
