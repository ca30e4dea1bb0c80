"""The plots of arms in a comparison: outcomes, frontiers, learning curves, overlap over time."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from ..common.intervals import Unit
from ..studies.compare import frontier
from ..studies.compare.measures import FORGETTING, Measure, by_unit
from ..studies.compare.results import Record
from ..studies.compare.summary import BudgetSummary
from .style import Look, figure, log_ticks, panels, shared_legend, styled

MANY = 10
"""If there are more arms than this, only the principal ones are drawn in colour."""
PALE: dict[str, Any] = {"color": "#c4c4c4", "linewidth": 0.8, "linestyle": "-", "marker": "", "zorder": 1}


@dataclass(frozen=True)
class Scene:
    """What is drawn at one budget.

    Attributes:
        runs: arm -> its runs at the tuned settings, without broken ones.
        points: arm -> its runs at all settings.
        labels, looks: by arm.
        principal: the arms to draw in colour.
    """

    runs: Mapping[str, Sequence[Record]]
    points: Mapping[str, Sequence[Record]]
    labels: Mapping[str, str]
    looks: Mapping[str, Look]
    principal: Sequence[str]

    @property
    def tasks(self) -> list[str]:
        return list(dict.fromkeys(r.cell.task for runs in self.runs.values() for r in runs))

    def stroke(self, name: str) -> dict[str, Any]:
        """Return the line style of an arm, as keywords of matplotlib."""
        if name not in self.principal:
            return PALE
        look = self.looks[name]
        return {"color": look.colour, "linestyle": look.line, "linewidth": 1.7, "marker": look.marker,
                "markersize": 4.5, "label": self.labels[name]}  # fmt: skip


@styled()
def outcomes(scene: Scene, part: BudgetSummary, measure: Measure) -> Figure:
    """The primary measure per arm, with a small dot per task and seed, and differences from the static arm."""
    names = [name for name, runs in scene.runs.items() if runs]
    fig = figure(10, 0.3 * len(names) + 1.3)
    differences = {
        (c.a, c.measure): c.interval for c in part.contrasts if c.b == "static" and c.interval.mean is not None
    }
    matched = any(key == FORGETTING.key for _, key in differences)
    axes = fig.subplots(1, 3 if matched else 2, sharey=True)
    for row, name in enumerate(names):
        values = measure.scale * np.array(list(by_unit(scene.runs[name], measure.read).values()))
        paint, marker = scene.looks[name].colour, scene.looks[name].marker
        rows = row + (np.linspace(-0.2, 0.2, len(values)) if len(values) > 1 else np.zeros(len(values)))
        axes[0].scatter(values, rows, s=14, color=paint, alpha=0.4, linewidths=0)
        mean = part.arms[name].measures[measure.key].mean
        if mean is not None:
            axes[0].scatter([measure.scale * mean], [row], s=64, color=paint, marker=marker, zorder=3)
        for axis, shown in zip(axes[1:], (measure, FORGETTING), strict=False):
            found = differences.get((name, shown.key))
            if found is None or found.mean is None:
                continue
            if found.low is not None and found.high is not None:
                ends = [shown.scale * found.low, shown.scale * found.high]
                axis.plot(ends, [row, row], color=paint, linewidth=2.2, alpha=0.75, solid_capstyle="butt")
            axis.scatter([shown.scale * found.mean], [row], s=64, color=paint, marker=marker, zorder=3)
    axes[0].set_title(_wrapped(f"{measure.label} ({better(measure)})"))
    for axis, shown in zip(axes[1:], (measure, FORGETTING), strict=False):
        axis.axvline(0, color=scene.looks["static"].colour if "static" in scene.looks else "#777777", linewidth=1.3)
        axis.set_title(_wrapped(f"{shown.label}, minus static ({better(shown)})"))
    for axis in axes:
        axis.grid(axis="y", visible=False)
    axes[0].set_yticks(range(len(names)), [scene.labels[name] for name in names])
    axes[0].set_ylim(len(names) - 0.5, -0.5)
    return fig


def _wrapped(text: str) -> str:
    return textwrap.fill(text, 28)


def better(measure: Measure) -> str:
    """Say which direction of a measure is better."""
    return "higher is better" if measure.higher_is_better else "lower is better"


@styled()
def frontiers(scene: Scene) -> Figure | None:
    """Retained loss over target loss, one panel per task: the frontier of each arm, mean over seeds and draws.

    None if no arm has a frontier, because nothing is retained or no run got below its initial loss.
    """
    lines: dict[str, dict[str, tuple[np.ndarray, np.ndarray]]] = {}
    for name, runs in scene.points.items():
        for task, draws in _by_task(frontier.points(runs)).items():
            low, high = max(min(points)[0] for points in draws), min(points[0][0] for points in draws)
            if low < high:
                target = frontier.grid(low, high)
                found = [frontier.retained_at(frontier.envelope(points), target) for points in draws]
                lines.setdefault(task, {})[name] = target, np.mean(found, 0)
    if not lines:
        return None
    fig, axes = panels(len(lines), 3.6)
    for axis, (task, drawn) in zip(axes, lines.items(), strict=True):
        for name, (target, retained) in drawn.items():
            axis.plot(target, retained, **{**scene.stroke(name), "markevery": [0]})
        axis.set_xscale("log")
        log_ticks(axis.xaxis)
        axis.set_title(task)
        axis.set_xlabel("target loss (nats)")
    axes[0].set_ylabel("retained loss (nats)")
    shared_legend(fig, axes, 6)
    return fig


def _by_task(found: Mapping[Unit, Sequence[list[frontier.Point]]]) -> dict[str, list[list[frontier.Point]]]:
    tasks: dict[str, list[list[frontier.Point]]] = {}
    for (task, _), draws in found.items():
        tasks.setdefault(task, []).extend(draws)
    return tasks


@styled()
def learning_curves(scene: Scene) -> Figure:
    """Held-out loss of the target task over steps, one panel per task: mean over seeds and draws, range shaded."""
    fig, axes = panels(len(scene.tasks), 3.6)
    for axis, task in zip(axes, scene.tasks, strict=True):
        for name, runs in scene.runs.items():
            curves = [r.measures.curve for r in runs if r.cell.task == task and r.measures and r.measures.curve]
            if not curves:
                continue
            steps = [point.step for point in curves[0]]
            losses = np.array([[point.loss for point in curve] for curve in curves])
            axis.plot(steps, losses.mean(0), **scene.stroke(name))
            if len(curves) > 1 and name in scene.principal:
                axis.fill_between(steps, losses.min(0), losses.max(0), color=scene.looks[name].colour, alpha=0.06,
                                  linewidth=0)  # fmt: skip
        axis.set_yscale("log")
        log_ticks(axis.yaxis)
        axis.set_title(task)
        axis.set_xlabel("optimizer step")
    axes[0].set_ylabel("held-out loss (nats per answer token)")
    shared_legend(fig, axes, 6)
    return fig


@styled()
def overlap_over_time(scene: Scene, vectors: Mapping[str, int], chance: float | None) -> Figure:
    """Share of the realised circuit that each arm trains at each step, mean over tasks, seeds and draws.

    Args:
        vectors: component name -> its vectors.
        chance: the average share of a random mask.
    """
    realised = {
        (r.cell.task, r.cell.replicate): set(r.measures.realised)
        for r in scene.runs.get("full", ())
        if r.measures and r.measures.realised and set(r.measures.realised) <= set(vectors)
    }
    fig = figure(10, 3.4)
    axis = fig.subplots()
    for name, runs in scene.runs.items():
        found = [
            (r.measures.schedule, realised[r.cell.task, r.cell.replicate], r.cell.training["max_steps"])
            for r in runs
            if r.measures and r.measures.schedule and (r.cell.task, r.cell.replicate) in realised
        ]
        if name == "full" or not found:
            continue
        steps = np.arange(max(total for _, _, total in found) + 1)
        lines = [_overlaps(schedule, circuit, vectors, steps) for schedule, circuit, _ in found]
        axis.step(steps, np.mean(lines, 0), where="post", **{**scene.stroke(name), "marker": "", "linewidth": 2})
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


def principal(arms: Sequence[str], wanted: Sequence[str]) -> list[str]:
    """Choose the arms to draw in colour: all of them, or the wanted ones if there are more than `MANY`."""
    return list(arms) if len(arms) <= MANY else [name for name in arms if name in wanted][:MANY]
