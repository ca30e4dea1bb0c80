"""The plots of a comparison: of its arms, and of circuits (scores with the mask outlined, forecasts and what came)."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from ..studies.compare import frontier
from ..studies.compare.measures import FORGETTING, by_unit, grouped
from ..studies.compare.part import Part
from ..studies.compare.results import LastForecast
from ..studies.compare.summary import BudgetSummary
from ..trajectory.series import Series
from . import score_maps
from .score_maps import MASK
from .style import figure, log_ticks, looks, panels, shared_legend, styled

MANY = 10
"""If there are more arms than this, only the principal ones are drawn in colour."""
PALE: dict[str, Any] = {"color": "#c4c4c4", "linewidth": 0.8, "linestyle": "-", "marker": "", "zorder": 1}
CIRCUIT = "#0b7a5b"
GROUPS = (
    # in the mask, in the circuit
    (False, False, "#bdbdbd", "o", "neither"),
    (True, False, MASK, "X", "trained, not in the circuit"),
    (False, True, "#e69f00", "D", "in the circuit, missed"),
    (True, True, CIRCUIT, "o", "trained and in the circuit"),
)
FLOOR = 1e-3


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
    axis.set(ylim=(-0.02, 1.04), xlabel="optimizer step", ylabel="share of the realised\ncircuit in the mask")
    axis.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))
    return fig


def _overlaps(schedule, realised: set[str], vectors: Mapping[str, int], steps: np.ndarray) -> np.ndarray:
    whole = sum(vectors[name] for name in realised)
    line = np.zeros(len(steps))
    for start, mask in schedule:
        line[steps >= start] = sum(vectors[name] for name in realised.intersection(mask)) / whole
    return line


@dataclass(frozen=True)
class Picture:
    """One task and seed: the recorded full run, what an arm trained, and what it forecast.

    Attributes:
        series: scores of the full run.
        schedule: (step, component names) of the arm; empty if it failed or trains no components.
        realised: the circuit at the end of the full run.
        forecast: the last one of the arm, whose label is `arm`.
    """

    task: str
    seed: int
    series: Series
    schedule: Sequence[tuple[int, Sequence[str]]]
    realised: Sequence[str]
    forecast: LastForecast | None
    arm: str = "foresight"


@styled()
def heatmap(picture: Picture) -> Figure:
    """Scores of the full run over steps, with the arm's mask outlined and the realised circuit marked."""
    series = picture.series
    position, edges = {name: i for i, name in enumerate(series.name)}, score_maps.borders(series.steps)
    ends = [*(step for step, _ in picture.schedule[1:]), edges[-1]]
    boxes = [(position[name], start, stop) for (start, names), stop in zip(picture.schedule, ends, strict=False)
             for name in names if name in position]  # fmt: skip
    fig, shown = score_maps.heatmap(series.values, series.steps, series.layer, series.kind, boxes)
    realised = [position[name] for name in picture.realised if name in position]
    for axis, place in shown.values():
        beyond = edges[-1] + 0.025 * (edges[-1] - edges[0])
        axis.plot([beyond] * len(realised), place[realised] + 0.5, marker="<", linestyle="none", color=CIRCUIT,
                  markersize=5, clip_on=False)  # fmt: skip
    handles = [
        Patch(fill=False, edgecolor=MASK, linewidth=1.5, label=f"trained by {picture.arm}"),
        Line2D([], [], marker="<", linestyle="none", color=CIRCUIT, label="realised circuit (end of the full run)"),
    ]
    fig.legend(handles=handles, loc="outside upper center", ncols=2)
    return fig


@styled()
def predicted_against_realised(pictures: Sequence[Picture]) -> Figure:
    """Forecast scores against the full run's last ones, both as shares of their largest, one panel per task.

    Pictures without a forecast have no panel. The mask shown is the one that the forecast led to.
    """
    shown = [(picture, picture.forecast) for picture in pictures if picture.forecast is not None]
    titles = [picture.task for picture, _ in shown]
    fig, axes = panels(titles, 3.6, y="score at the end of the full run / largest")
    for axis, (picture, forecast) in zip(axes, shown, strict=True):
        _scatter(axis, picture, forecast)
    shared_legend(fig, axes[:1], len(GROUPS))
    return fig


def _scatter(axis, picture: Picture, forecast: LastForecast) -> None:
    series = picture.series
    expected, came = np.array(forecast.scores), series.values[:, -1]
    x, y = (np.maximum(v / max(v.max(), np.finfo(float).tiny), FLOOR) for v in (expected, came))
    realised = np.isin(series.name, list(picture.realised))
    chosen = np.isin(series.name, list(picture.schedule[-1][1]))
    axis.plot([FLOOR, 1], [FLOOR, 1], color="#999999", linewidth=0.8, linestyle=":")
    for in_mask, in_circuit, colour, marker, label in GROUPS:
        where = (chosen == in_mask) & (realised == in_circuit)
        axis.scatter(x[where], y[where], color=colour, marker=marker, s=26, alpha=0.85, linewidths=0, label=label)
    axis.set(
        xscale="log",
        yscale="log",
        title=f"{picture.task}: {(chosen & realised).sum()} of {realised.sum()} found",
        xlabel=f"forecast at step {forecast.made_at} for {forecast.for_step} / largest",
    )
