"""The plots of a tracking study: how far circuits move, how stale the first map is, how faithful circuits are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from ..common.intervals import mean_interval
from ..studies.track.answers import Answers
from ..studies.track.settings import STRATEGIES
from ..studies.track.tables import Row
from .score_maps import KINDS
from .style import COLOURS, MARKERS, figure, panels, shared_legend, styled

KIND_STYLE = {"all": ("#1a1a1a", "s"), "head": ("#0072b2", "o"), "kv": ("#009e73", "^"), "mlp": ("#d55e00", "D")}
"""Colour and marker by kind of component, in every figure; colours are of Okabe and Ito's palette."""
LABELS = {"all": "All components", **KINDS}
MEASURES = {"jaccard": "Jaccard distance", "wasserstein": "Depth distance (Wasserstein)"}
HALVES, RUNS, BASE = "#c9c9c9", "#56b4e9", "#cc79a7"
MOST_LABELS = 7
"""Snapshots that are labelled on an axis, at most."""


def colour(strategy: str) -> str:
    return COLOURS.get(STRATEGIES.get(strategy, strategy), COLOURS["foresight"])


@styled()
def distances(rows: Sequence[Row], between: Sequence[Row], measure: str) -> Figure:
    """Distance from step 0 over steps, with both noise floors as bands: one row per strategy, one column per kind.

    Args:
        rows: of the table `distance`, by one scorer, since the start.
        between: of the table `between`, by the same scorer.
    """
    rows = [row for row in rows if row["measure"] == measure]
    strategies, kinds = values(rows, "strategy"), [kind for kind in LABELS if kind in values(rows, "kind")]
    fig = figure(10, 2.5 * len(strategies) + 0.9)
    axes = fig.subplots(len(strategies), len(kinds), squeeze=False, sharex=True, sharey=True)
    for strategy, line in zip(strategies, axes, strict=True):
        for kind, axis in zip(kinds, line, strict=True):
            here = [r for r in rows if (r["strategy"], r["kind"]) == (strategy, kind)]
            runs = [r for r in between if (r["strategy"], r["kind"], r["measure"]) == (strategy, kind, measure)]
            _distance(axis, here, runs, kind)
            axis.set_title(f"{strategy}: {LABELS[kind]}")
        line[0].set_ylabel("distance from step 0")
    for axis in axes[-1]:
        step_axis(axis, values(rows, "step"))
    axes[0, 0].set_ylim(0, 1.05 * axes[0, 0].get_ylim()[1])
    handles = [
        *axes[0, 0].get_legend_handles_labels()[0],
        Patch(color=HALVES, label="noise: halves of the probe (mean to 95 %)"),
    ]
    if between:
        seeds = "noise: runs that differ in their seed"
        handles.append(Patch(facecolor="none", edgecolor=RUNS, hatch="////", label=seeds))
    fig.legend(handles=handles, loc="outside upper center", ncols=3)
    return fig


def _distance(axis: Axes, rows: Sequence[Row], between: Sequence[Row], kind: str) -> None:
    steps = sorted(values(rows, "step"))
    at = [[r for r in rows if r["step"] == step] for step in steps]
    low, high = ([mean_of(r[name] for r in here) for here in at] for name in ("floor", "floor_high"))
    _band(axis, steps, low, high, color=HALVES, linewidth=0)
    known = [s for s in steps if any(r["step"] == s for r in between)]
    if known:
        runs = [[r["between_runs"] for r in between if r["step"] == step] for step in known]
        _band(axis, known, [min(v) for v in runs], [max(v) for v in runs], facecolor="none", edgecolor=RUNS,
              hatch="////", linewidth=0.8)  # fmt: skip
    found = [mean_interval({(r["task"], r["seed"]): r["value"] for r in here}).within(0, 1) for here in at]
    paint, marker = KIND_STYLE[kind]
    _points(axis, steps, [(f.mean, f.low, f.high) for f in found], color=paint, marker=marker,
            label="mean of all runs, 95 % interval" if kind == "all" else None)  # fmt: skip


def _band(axis: Axes, steps: Sequence[float], low: Sequence[float], high: Sequence[float], **style) -> None:
    if len(steps) == 1:  # a band needs a width
        steps, low, high = [steps[0] * 0.9, steps[0] * 1.1], [*low, *low], [*high, *high]
    axis.fill_between(steps, low, high, **style)


def _points(axis: Axes, steps, found: Sequence[tuple], shift: float = 0.0, **style) -> None:
    """Draw means joined by a line, with their intervals; members of (mean, low, high) may be None."""
    mean, low, high = np.array(found, dtype=float).T
    errors = np.nan_to_num(np.stack([mean - low, high - mean]))
    axis.errorbar(np.asarray(steps) + shift, mean, errors, markersize=5, linewidth=1.6, capsize=2.5, zorder=3, **style)


@styled()
def movement(answers: Answers, scorer: str) -> Figure:
    """Movement alone by kind: one column of panels per strategy, one row per measure."""
    rows = [row for row in answers.moves if row["scorer"] == scorer]
    strategies, kinds = values(rows, "strategy"), [kind for kind in LABELS if kind in values(rows, "kind")]
    steps = sorted(values(rows, "step"))
    gap = 0.02 * (steps[-1] - steps[0] if len(steps) > 1 else steps[0])
    fig = figure(10, 6)
    axes = fig.subplots(2, len(strategies), squeeze=False, sharex=True, sharey="row")
    for line, measure in zip(axes, MEASURES, strict=True):
        for axis, strategy in zip(line, strategies, strict=True):
            axis.axhline(0, color="#777777", linewidth=1.2)
            for i, kind in enumerate(kinds):
                here = [r for r in rows
                        if (r["strategy"], r["kind"], r["measure"]) == (strategy, kind, measure)]  # fmt: skip
                found = [(r["mean"], r["interval_low"], r["interval_high"]) for r in here]
                shift, (paint, marker) = (i - (len(kinds) - 1) / 2) * gap, KIND_STYLE[kind]
                at = [r["step"] for r in here]
                _points(axis, at, found, shift, label=LABELS[kind], color=paint, marker=marker)
        line[0].set_ylabel(f"movement alone:\n{MEASURES[measure]}")
    for axis, strategy in zip(axes[0], strategies, strict=True):
        axis.set_title(strategy)
    for axis in axes[1]:
        step_axis(axis, steps)
    shared_legend(fig, axes[0, :1], len(kinds))
    return fig


@styled()
def staleness(answers: Answers, scorer: str) -> Figure:
    """Overlap of the step-0 map with the circuit over steps, between that of a fresh map and chance."""
    rows = [row for row in answers.staleness if row["scorer"] == scorer]
    strategies = values(rows, "strategy")
    fig, axes = panels(len(strategies), 2.9)
    for axis, strategy in zip(axes, strategies, strict=True):
        here = [row for row in rows if row["strategy"] == strategy]
        steps = [row["step"] for row in here]
        paint = colour(strategy)
        axis.plot(steps, [r["ceiling"] for r in here], color="#777777", linestyle="--", label="a fresh map")
        # The interval is that of what was lost, drawn downwards from the fresh map.
        known = [(r["across"], *(None if r[end] is None else r["ceiling"] - r[end]
                                 for end in ("interval_high", "interval_low"))) for r in here]  # fmt: skip
        marker = MARKERS.get(STRATEGIES.get(strategy, strategy), "o")
        _points(axis, steps, known, color=paint, marker=marker, label="the map of step 0, 95 % interval")
        axis.plot(steps, [r["chance"] for r in here], color="#777777", linestyle=":", label="chance")
        axis.set_ylim(0, 1.02)
        axis.set_title(strategy)
        step_axis(axis, steps)
    axes[0].set_ylabel("overlap with the circuit")
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
    fig, axes = panels(len(tasks), 2.9)
    for axis, task in zip(axes, tasks, strict=True):
        axis.axhline(1, color="#777777", linewidth=0.8)
        for model in models:
            here = [r for r in rows if (r["circuit_of"], r["strategy"]) == (task, model)]
            x = sorted(set(values(here, "fraction")))
            at = [[r for r in here if r["fraction"] == fraction] for fraction in x]
            mean, low, high = ([mean_of(r[name] for r in group if r[name] is not None) for group in at]
                               for name in ("value", "low", "high"))  # fmt: skip
            paint = BASE if model is None else colour(model)
            style = "--" if model is None else "-"
            axis.plot(x, mean, color=paint, linestyle=style, linewidth=1.6, label=model or "before training")
            axis.fill_between(x, low, high, color=paint, alpha=0.12, linewidth=0)
        axis.set_xscale("log")
        axis.xaxis.set_major_formatter("{x:g}")
        axis.set_ylim(*np.clip(axis.get_ylim(), -1, 2.5))
        axis.set_title(task)
        axis.set_xlabel("share of components in the circuit")
    axes[0].set_ylabel("faithfulness")
    shared_legend(fig, axes, len(models))
    return fig


def step_axis(axis: Axes, steps: Iterable[int]) -> None:
    """Put ticks at snapshots, at most `MOST_LABELS` of them."""
    known = sorted(set(steps))
    axis.set_xticks(known[:: -(-len(known) // MOST_LABELS)])
    axis.set_xlabel("optimizer step")


def values(rows: Iterable[Row], column: str) -> list:
    """Return the distinct values of a column, in order of appearance."""
    return list(dict.fromkeys(row[column] for row in rows))


def mean_of(numbers: Iterable[float]) -> float:
    """Return the mean of the finite numbers, NaN if there are none."""
    found = [number for number in numbers if np.isfinite(number)]
    return float(np.mean(found)) if found else float("nan")
