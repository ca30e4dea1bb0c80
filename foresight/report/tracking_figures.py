"""The plots of a tracking study: how far circuits move, how stale, stable and faithful they are, how tasks conflict."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..common.intervals import mean_interval
from ..common.numbers import number
from ..studies.track.settings import STRATEGIES
from ..studies.track.tables import Row, values, where
from .score_maps import KINDS
from .style import COLOURS, MARKERS, MOST_LABELS, figure, panels, shared_legend, step_axis, styled

KIND_STYLE = {"all": ("#1a1a1a", "s"), "head": ("#0072b2", "o"), "kv": ("#009e73", "^"), "mlp": ("#d55e00", "D")}
"""Colour and marker by kind of component; colours are of Okabe and Ito's palette."""
LABELS = {"all": "All components", **KINDS}
MEASURES = {"jaccard": "Jaccard distance", "wasserstein": "Depth distance (Wasserstein)"}
HALVES, RUNS, BASE = "#c9c9c9", "#56b4e9", "#cc79a7"
MOST_TASKS = 9
"""Up to this many tasks, cells of a conflict matrix are labelled."""
STABILITY: dict[str, tuple[str, str, float, float, Callable[[float], float]]] = {
    "ratio": ("ratio to t's own circuit", "PuOr", 0, 2, lambda value: value - 1),
    "faithfulness": ("faithfulness of s at t", "Blues", 0, 1.2, lambda value: 0.0),
    "rank_distance": ("rank distance of s and t", "Blues", 0, 1, lambda value: value),
}
"""Measure -> title, colour map, its range, and the deviation that is compared with the floor (0: none is)."""


def colour(strategy: str) -> str:
    return COLOURS.get(STRATEGIES.get(strategy, strategy), COLOURS["foresight"])


@styled()
def distances(rows: Sequence[Row], between: Sequence[Row], moves: Sequence[Row], measure: str) -> Figure:
    """Distance from step 0 over steps with both floors, and movement alone, by strategy (rows) and kind (columns).

    Args:
        rows: of the table `distance`, by one scorer, since the start.
        between, moves: of the table `between` and of the answers `moves`, by the same scorer.
    """
    rows = where(rows, measure=measure)
    strategies, kinds = values(rows, "strategy"), [kind for kind in LABELS if kind in values(rows, "kind")]
    fig = figure(10, 2.5 * len(strategies) + 0.9)
    axes = fig.subplots(len(strategies), len(kinds), squeeze=False, sharex=True, sharey=True)
    for strategy, line in zip(strategies, axes, strict=True):
        for kind, axis in zip(kinds, line, strict=True):
            wanted = {"strategy": strategy, "kind": kind, "measure": measure}
            _distance(axis, where(rows, **wanted), where(between, **wanted), where(moves, **wanted), kind)
            axis.set_title(f"{strategy}: {LABELS[kind]}")
        line[0].set_ylabel("distance from step 0")
    for axis in axes[-1]:
        step_axis(axis, values(rows, "step"))
    shared_legend(fig, axes[0, :1], 2)
    return fig


def _distance(axis: Axes, rows: Sequence[Row], between: Sequence[Row], moves: Sequence[Row], kind: str) -> None:
    steps = sorted(values(rows, "step"))
    at = [where(rows, step=step) for step in steps]
    low, high = ([mean_of(r[name] for r in here) for here in at] for name in ("floor", "floor_high"))
    _band(axis, steps, low, high, color=HALVES, linewidth=0, label="noise: halves of the probe (mean to 95 %)")
    if known := [step for step in steps if where(between, step=step)]:
        runs = [values(where(between, step=step), "between_runs") for step in known]
        _band(axis, known, list(map(min, runs)), list(map(max, runs)), facecolor="none", edgecolor=RUNS, hatch="////",
              linewidth=0.8, label="noise: runs that differ in their seed")  # fmt: skip
    found = [mean_interval({(r["task"], r["seed"]): r["value"] for r in here}).within(0, 1) for here in at]
    paint, marker = KIND_STYLE[kind]
    _points(axis, steps, [(f.mean, f.low, f.high) for f in found], color=paint, marker=marker,
            label="mean of all runs, 95 % interval")  # fmt: skip
    alone = [(r["mean"], r["interval_low"], r["interval_high"]) for r in moves]
    axis.axhline(0, color="#777777", linewidth=0.8)
    _points(axis, [r["step"] for r in moves], alone, color=paint, marker=marker, linestyle=":", markerfacecolor="white",
            label="movement alone, 95 % interval")  # fmt: skip


def _band(axis: Axes, steps: Sequence[float], low: Sequence[float], high: Sequence[float], **style) -> None:
    if len(steps) == 1:  # a band needs a width
        steps, low, high = [steps[0] * 0.9, steps[0] * 1.1], [*low, *low], [*high, *high]
    axis.fill_between(steps, low, high, **style)


def _points(axis: Axes, steps: Sequence[int], found: Sequence[tuple], **style) -> None:
    """Draw means joined by a line, with their intervals; members of (mean, low, high) may be None."""
    mean, low, high = np.array(found, dtype=float).T
    errors = np.nan_to_num(np.stack([mean - low, high - mean]))
    axis.errorbar(steps, mean, errors, markersize=5, linewidth=1.6, capsize=2.5, zorder=3, **style)


@styled()
def staleness(rows: Sequence[Row]) -> Figure:
    """Overlap of the step-0 map with the circuit over steps, between that of a fresh map and chance.

    Args:
        rows: the answers `staleness`, by one scorer.
    """
    strategies = values(rows, "strategy")
    fig, axes = panels(strategies, 2.9, y="overlap with the circuit")
    for axis, strategy in zip(axes, strategies, strict=True):
        here = where(rows, strategy=strategy)
        steps = [row["step"] for row in here]
        axis.plot(steps, [r["ceiling"] for r in here], color="#777777", linestyle="--", label="a fresh map")
        # The interval is that of what was lost, drawn downwards from the fresh map.
        known = [(r["across"], *(None if r[end] is None else r["ceiling"] - r[end]
                                 for end in ("interval_high", "interval_low"))) for r in here]  # fmt: skip
        marker = MARKERS.get(STRATEGIES.get(strategy, strategy), "o")
        _points(axis, steps, known, color=colour(strategy), marker=marker, label="the map of step 0, 95 % interval")
        axis.plot(steps, [r["chance"] for r in here], color="#777777", linestyle=":", label="chance")
        axis.set_ylim(0, 1.02)
        step_axis(axis, steps)
    shared_legend(fig, axes[:1], 3)
    return fig


@styled()
def curves(rows: Sequence[Row]) -> Figure:
    """Faithfulness of circuits over their size, one panel per task: the base model, and the models after training.

    Args:
        rows: of the table `curves`; from each run, those of the task that it was trained on.
    """
    rows = [r for r in rows if r["measure"] == "faithfulness" and r["fraction"] and r["value"] is not None]
    tasks, models = values(rows, "circuit_of"), sorted(values(rows, "strategy"), key=lambda model: model is not None)
    fig, axes = panels(tasks, 2.9, "share of components in the circuit", "faithfulness")
    for axis, task in zip(axes, tasks, strict=True):
        axis.axhline(1, color="#777777", linewidth=0.8)
        for model in models:
            here = where(rows, circuit_of=task, strategy=model)
            x = sorted(values(here, "fraction"))
            mean, low, high = (
                [mean_of(r[name] for r in where(here, fraction=fraction) if r[name] is not None) for fraction in x]
                for name in ("value", "low", "high")
            )
            paint, line = (BASE, "--") if model is None else (colour(model), "-")
            axis.plot(x, mean, color=paint, linestyle=line, linewidth=1.6, label=model or "before training")
            axis.fill_between(x, low, high, color=paint, alpha=0.12, linewidth=0)
        axis.set_xscale("log")
        axis.xaxis.set_major_formatter("{x:g}")
        axis.set_ylim(*np.clip(axis.get_ylim(), -1, 2.5))
    shared_legend(fig, axes, len(models))
    return fig


@styled()
def stability(rows: Sequence[Row]) -> Figure:
    """Matrices s x t of means over runs: one row of panels per strategy, one column per measure.

    Args:
        rows: of the table `stability`, by one scorer; from each run, those of the task that it was trained on.
    """
    strategies, measures = values(rows, "strategy"), [name for name in STABILITY if name in values(rows, "measure")]
    steps = sorted(values(rows, "t"))
    fig = figure(10, 3.3 * len(strategies) + 0.2)
    axes = fig.subplots(len(strategies), len(measures), squeeze=False)
    for strategy, line in zip(strategies, axes, strict=True):
        for measure, axis in zip(measures, line, strict=True):
            title, colours, least, most, deviation = STABILITY[measure]
            image, texts = np.full((len(steps), len(steps)), np.nan), {}
            known = [r for r in where(rows, strategy=strategy, measure=measure) if np.isfinite(r["value"])]
            for at in {(r["s"], r["t"]) for r in known}:
                i, j = map(steps.index, at)
                here = where(known, s=at[0], t=at[1])
                image[i, j] = mean_of(r["value"] for r in here)
                beyond = max(sum(sign * deviation(r["value"]) > r["floor_high"] for r in here) for sign in (1, -1))
                texts[i, j] = "\N{BULLET}" if 2 * beyond > len(here) else ""
                if len(steps) <= MOST_LABELS:
                    floor = number(mean_of(r["floor"] for r in here))
                    texts[i, j] = f"{number(image[i, j])}{texts[i, j]}\n({floor})"
            _matrix(axis, image, texts, cmap=colours, vmin=least, vmax=most)
            ticks = range(0, len(steps), -(-len(steps) // MOST_LABELS))
            labels = [str(steps[i]) for i in ticks]
            axis.set(xticks=ticks, xticklabels=labels, yticks=ticks, yticklabels=labels)
            axis.set(title=f"{strategy}: {title}", xlabel="t: step of the model", ylabel="s: step of the circuit")
    return fig


@styled()
def conflict(rows: Sequence[Row]) -> Figure:
    """Sign conflict of every pair of tasks on the base model, with floors; bold where it is beyond its floor.

    Args:
        rows: the answers `conflict`.
    """
    tasks = list(dict.fromkeys(name for row in rows for name in (row["task_a"], row["task_b"])))
    n, labelled = len(tasks), len(tasks) <= MOST_TASKS
    fig = figure(10, 4.6)
    axis = fig.subplots()
    image, texts, bold = np.full((n, n), np.nan), {}, set()
    for row in rows:
        i, j = tasks.index(row["task_a"]), tasks.index(row["task_b"])
        dot = "\N{BULLET}" if row["beyond_floor"] else ""
        for at in ((i, j), (j, i)):
            image[at] = row["value"]
            texts[at] = f"{row['value']:.2f}\n({row['floor_high']:.2f})" if labelled else dot
            bold |= {at} if row["beyond_floor"] else set()
    _matrix(axis, image, texts, bold, cmap="Blues", vmin=0, vmax=1)
    axis.set_xticks(range(n), tasks, rotation=40, ha="right", rotation_mode="anchor")
    axis.set_yticks(range(n), tasks)
    axis.set_title(f"Conflict ({'in brackets: 95 % of halves lie below' if labelled else 'dot: beyond the floor'})")
    return fig


def _matrix(axis: Axes, image: np.ndarray, texts: dict[tuple[int, int], str], bold: Iterable = (), **style) -> None:
    """Draw a square image with a text in every known cell, (row, column) -> text, that can be read on its colour."""
    shown = axis.imshow(image, **style)
    for (i, j), text in texts.items():
        red, green, blue, _ = shown.cmap(shown.norm(image[i, j]))
        dark = 0.3 * red + 0.59 * green + 0.11 * blue < 0.5
        weight, size = "bold" if (i, j) in bold else "normal", 8.5 if len(image) < 5 else 6.5
        axis.text(j, i, text, ha="center", va="center", color="white" if dark else "black", fontsize=size,
                  fontweight=weight)  # fmt: skip
    axis.grid(visible=False)


def mean_of(numbers: Iterable[float]) -> float:
    """Return the mean of the finite numbers, NaN if there are none."""
    found = [number for number in numbers if np.isfinite(number)]
    return float(np.mean(found)) if found else float("nan")
