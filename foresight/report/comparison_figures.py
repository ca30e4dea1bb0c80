"""The plots of arms in a comparison: outcomes, frontiers, learning curves, overlap over time."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from ..studies.compare import frontier
from ..studies.compare.measures import FORGETTING, by_unit, grouped
from ..studies.compare.part import Part
from ..studies.compare.summary import BudgetSummary
from .style import figure, log_ticks, looks, panels, shared_legend, styled

MANY = 10
"""If there are more arms than this, only the principal ones are drawn in colour."""
PALE: dict[str, Any] = {"color": "#c4c4c4", "linewidth": 0.8, "linestyle": "-", "marker": "", "zorder": 1}


def strokes(part: Part) -> dict[str, dict[str, Any]]:
    """Arm -> its line style, as keywords of matplotlib; `PALE` for the less important ones if there are many."""
    config, drawn = part.config, [name for name, runs in part.whole.items() if runs]
    wanted = {config.primary_arm, *config.against, "full", "random", "full_replay"}
    wanted |= {name for name, arm in part.arms.items() if arm.hindsight}
    principal = drawn if len(drawn) <= MANY else [name for name in drawn if name in wanted][:MANY]
    return {
        name: {"color": look.colour, "linestyle": look.line, "linewidth": 1.7, "marker": look.marker, "markersize": 4.5,
               "label": part.arms[name].label} if name in principal else PALE
        for name, look in looks(part.arms).items()
    }  # fmt: skip


@styled()
def outcomes(part: Part, found: BudgetSummary) -> Figure:
    """The primary measure per arm, with a small dot per task and seed, and differences from the static arm."""
    measure, names, look = part.config.measure, [name for name, runs in part.whole.items() if runs], looks(part.arms)
    fig = figure(10, 0.3 * len(names) + 1.3)
    differences = {(c.a, c.measure): c.interval for c in found.contrasts if c.b == "static"}
    matched = any(key == FORGETTING.key and of.mean is not None for (_, key), of in differences.items())
    axes = fig.subplots(1, 3 if matched else 2, sharey=True)
    beside = list(zip(axes[1:], (measure, FORGETTING), strict=False))
    for row, name in enumerate(names):
        paint, marker = look[name].colour, look[name].marker
        values = measure.scale * np.array(list(by_unit(part.whole[name], measure).values()))
        rows = row + (np.linspace(-0.2, 0.2, len(values)) if len(values) > 1 else np.zeros(len(values)))
        axes[0].scatter(values, rows, s=14, color=paint, alpha=0.4, linewidths=0)
        means = [(axes[0], measure, found.arms[name].measures[measure.key])]
        means += [(axis, of, differences[name, of.key]) for axis, of in beside if (name, of.key) in differences]
        for axis, of, interval in means:
            if axis is not axes[0] and interval.low is not None and interval.high is not None:
                ends = [of.scale * interval.low, of.scale * interval.high]
                axis.plot(ends, [row, row], color=paint, linewidth=2.2, alpha=0.75, solid_capstyle="butt")
            if interval.mean is not None:
                axis.scatter([of.scale * interval.mean], [row], s=64, color=paint, marker=marker, zorder=3)
    axes[0].set_title(textwrap.fill(f"{measure.label} ({measure.better})", 28))
    for axis, of in beside:
        axis.axvline(0, color=look["static"].colour if "static" in look else "#777777", linewidth=1.3)
        axis.set_title(textwrap.fill(f"{of.label}, minus static ({of.better})", 28))
    for axis in axes:
        axis.grid(axis="y", visible=False)
    axes[0].set_yticks(range(len(names)), [part.arms[name].label for name in names])
    axes[0].set_ylim(len(names) - 0.5, -0.5)
    return fig


@styled()
def frontiers(part: Part) -> Figure | None:
    """Retained loss over target loss, one panel per task: the frontier of each arm, mean over seeds and draws.

    None if no arm has a frontier, because nothing is retained or no run got below its initial loss.
    """
    lines: dict[str, dict[str, tuple[np.ndarray, np.ndarray]]] = {}
    for name, runs in part.points.items():
        seen = frontier.points(runs).items()
        for task, draws in grouped((task, points) for (task, _), of in seen for points in of).items():
            low, high = max(min(points)[0] for points in draws), min(points[0][0] for points in draws)
            if low < high:
                target = frontier.grid(low, high)
                found = [frontier.retained_at(frontier.envelope(points), target) for points in draws]
                lines.setdefault(task, {})[name] = target, np.mean(found, 0)
    if not lines:
        return None
    styles = strokes(part)
    fig, axes = panels(list(lines), 3.6, "target loss (nats)", "retained loss (nats)")
    for axis, drawn in zip(axes, lines.values(), strict=True):
        for name, (target, retained) in drawn.items():
            axis.plot(target, retained, **{**styles[name], "markevery": [0]})
        axis.set_xscale("log")
        log_ticks(axis.xaxis)
    shared_legend(fig, axes, 6)
    return fig


@styled()
def learning_curves(part: Part) -> Figure:
    """Held-out loss of the target task over steps, one panel per task: mean over seeds and draws, range shaded."""
    tasks = list(dict.fromkeys(r.cell.task for runs in part.whole.values() for r in runs))
    styles = strokes(part)
    fig, axes = panels(tasks, 3.6, "optimizer step", "held-out loss (nats per answer token)")
    for axis, task in zip(axes, tasks, strict=True):
        for name, runs in part.whole.items():
            curves = [r.measures.curve for r in runs if r.cell.task == task and r.measures and r.measures.curve]
            if not curves:
                continue
            steps = [point.step for point in curves[0]]
            losses = np.array([[point.loss for point in curve] for curve in curves])
            axis.plot(steps, losses.mean(0), **styles[name])
            if len(curves) > 1 and styles[name] is not PALE:
                axis.fill_between(steps, losses.min(0), losses.max(0), color=styles[name]["color"], alpha=0.06,
                                  linewidth=0)  # fmt: skip
        axis.set_yscale("log")
        log_ticks(axis.yaxis)
    shared_legend(fig, axes, 6)
    return fig


@styled()
def overlap_over_time(part: Part, vectors: Mapping[str, int], chance: float | None) -> Figure:
    """Share of the realised circuit that each arm trains at each step, mean over tasks, seeds and draws.

    Args:
        vectors: component name -> its vectors.
        chance: the average share of a random mask.
    """
    realised = {
        r.cell.unit: set(r.measures.realised)
        for r in part.whole["full"]
        if r.measures and r.measures.realised and set(r.measures.realised) <= set(vectors)
    }
    styles = strokes(part)
    fig = figure(10, 3.4)
    axis = fig.subplots()
    for name, runs in part.whole.items():
        found = [
            (r.measures.schedule, realised[r.cell.unit], r.cell.training["max_steps"])
            for r in runs
            if r.measures and r.measures.schedule and r.cell.unit in realised
        ]
        if name == "full" or not found:
            continue
        steps = np.arange(max(total for _, _, total in found) + 1)
        lines = [_overlaps(schedule, circuit, vectors, steps) for schedule, circuit, _ in found]
        axis.step(steps, np.mean(lines, 0), where="post", **{**styles[name], "marker": "", "linewidth": 2})
    if chance is not None:
        axis.axhline(chance, color="#999999", linestyle=":", linewidth=1.2, label="chance")
    axis.set_ylim(-0.02, 1.04)
    axis.set_xlabel("optimizer step")
    axis.set_ylabel("share of the realised\ncircuit in the mask")
    axis.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))
    return fig


def _overlaps(schedule, realised: set[str], vectors: Mapping[str, int], steps: np.ndarray) -> np.ndarray:
    whole = sum(vectors[name] for name in realised)
    line = np.zeros(len(steps))
    for start, mask in schedule:
        line[steps >= start] = sum(vectors[name] for name in realised.intersection(mask)) / whole
    return line
