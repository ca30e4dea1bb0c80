"""The plots of a comparison that compare arms: outcomes, learning curves, overlap over time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from ..comparison.arms import ARMS
from ..comparison.results import Record
from ..comparison.statistics import Interval
from ..comparison.summary import Summary
from .style import COLOURS, MARKERS, figure, panels, shared_legend, styled


def outcomes(summary: Summary, records: Sequence[Record]) -> Figure:
    """Accuracy by arm, a small dot a run and a large one the mean, and the paired gain over the static mask."""
    names = [name for name in summary.arms if summary.arms[name].target_accuracy.n]
    fig = figure(10, 0.4 * len(names) + 1.2)
    with styled():
        axes = fig.subplots(1, 3, sharey=True)
        targets = sorted({r.cell.task for r in records if r.cell.stage == "score"})
        for axis, key, title, tasks in (
            (axes[0], "target_accuracy", "Target accuracy, %", targets),
            (axes[1], "retained_accuracy", "Retained accuracy, %", list(summary.retained)),
        ):
            before = [summary.base[task] for task in tasks if task in summary.base]
            if before:
                axis.axvline(100 * np.mean(before), color="#777777", linestyle=":", linewidth=1.3)
            for row, name in enumerate(names):
                runs = np.array(_runs(records, name, key, summary.retained))
                rows = row + (np.linspace(-0.2, 0.2, len(runs)) if len(runs) > 1 else 0)
                axis.scatter(100 * runs, rows + np.zeros(len(runs)), s=14, color=COLOURS[name], alpha=0.4, linewidths=0)
                mean = getattr(summary.arms[name], key).mean
                if mean is not None:
                    axis.scatter([100 * mean], [row], s=64, color=COLOURS[name], marker=MARKERS[name], zorder=3)
            axis.set_title(title)
        for row, name in enumerate(names):
            gain = summary.contrasts.get(f"{name} - static")
            if gain is not None:
                _interval(axes[2], row, gain["target_accuracy"], name)
        axes[2].axvline(0, color=COLOURS["static"], linewidth=1.3)
        axes[2].set_title("Gain over static, points")
        for axis in axes:
            axis.grid(axis="y", visible=False)
        axes[0].set_yticks(range(len(names)), [ARMS[name].label for name in names])
        axes[0].set_ylim(len(names) - 0.5, -0.5)
    return fig


def _interval(axis, row: int, value: Interval, name: str) -> None:
    if value.mean is None:
        return
    if value.low is not None and value.high is not None:
        ends = [100 * value.low, 100 * value.high]
        axis.plot(ends, [row, row], color=COLOURS[name], linewidth=2.2, alpha=0.75, solid_capstyle="butt")
    axis.scatter([100 * value.mean], [row], s=64, color=COLOURS[name], marker=MARKERS[name], zorder=3)


def _runs(records: Sequence[Record], name: str, key: str, retained: Sequence[str]) -> list[float]:
    found = []
    for record in records:
        if record.cell.stage == "score" and record.cell.arm == name and record.measures:
            tasks = [record.cell.task] if key == "target_accuracy" else [t for t in retained if t != record.cell.task]
            if tasks:
                found.append(float(np.mean([record.measures.accuracy[task] for task in tasks])))
    return found


def learning_curves(records: Sequence[Record]) -> Figure:
    """Held-out loss of the target task over steps, one panel a task: mean over seeds and draws, range shaded."""
    scored = [r for r in records if r.cell.stage == "score" and r.measures and r.measures.curve]
    tasks = list(dict.fromkeys(r.cell.task for r in scored))
    fig, axes = panels(len(tasks), 3.6)
    with styled():
        for axis, task in zip(axes, tasks, strict=True):
            for name in ARMS:
                curves = [r.measures.curve for r in scored if r.cell.task == task and r.cell.arm == name and r.measures]
                if not curves:
                    continue
                steps = [point.step for point in curves[0]]
                losses = np.array([[point.loss for point in curve] for curve in curves])
                axis.plot(steps, losses.mean(0), color=COLOURS[name], marker=MARKERS[name], markersize=4.5,
                          linewidth=1.6, label=ARMS[name].label)  # fmt: skip
                if len(curves) > 1:
                    axis.fill_between(steps, losses.min(0), losses.max(0), color=COLOURS[name], alpha=0.06, linewidth=0)
            axis.set_yscale("log")
            low, high = axis.get_ylim()
            axis.yaxis.set_major_formatter("{x:g}")
            axis.yaxis.set_minor_formatter("{x:g}" if high < 10 * low else "")
            axis.set_title(task)
            axis.set_xlabel("optimizer step")
        axes[0].set_ylabel("held-out loss (nats per answer token)")
        shared_legend(fig, axes, len(ARMS))
    return fig


def overlap_over_time(records: Sequence[Record], vectors: Mapping[str, int], chance: float | None) -> Figure:
    """Share of the realised circuit that each arm trains at each step, mean over tasks, seeds and draws.

    Args:
        vectors: component name -> its vectors.
        chance: what a random mask has on average.
    """
    scored = [r for r in records if r.cell.stage == "score" and r.measures]
    realised = {
        (r.cell.task, r.cell.seed): set(r.measures.realised) for r in scored if r.measures and r.measures.realised
    }
    fig = figure(10, 3.2)
    with styled():
        axis = fig.subplots()
        for name in ARMS:
            runs = [r for r in scored if r.cell.arm == name and (r.cell.task, r.cell.seed) in realised]
            if name == "full" or not runs:
                continue
            total = max(r.cell.training["max_steps"] for r in runs)
            steps = np.arange(total + 1)
            lines = [
                _overlaps(r.measures.schedule, realised[r.cell.task, r.cell.seed], vectors, steps)
                for r in runs
                if r.measures
            ]
            axis.step(steps, np.mean(lines, 0), where="post", color=COLOURS[name], linewidth=2, label=ARMS[name].label)
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
