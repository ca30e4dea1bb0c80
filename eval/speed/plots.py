"""The figures as pictures: train steps beside each other, and how costs grow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from foresight.report.style import COLOURS, figure, log_ticks, panels, styled

OURS, PEER, WHOLE, FLOOR = COLOURS["foresight"], COLOURS["random"], COLOURS["full"], COLOURS["oracle"]
ARM_NAMES = {
    "full": "full fine-tuning", "floor": "floor: forward and input gradients", "lora_r8": "LoRA, rank 8",
    "shira": "SHiRA", "adalora": "AdaLoRA", "ia3": "IA3", "layers_2": "two layers", "galore": "GaLore, rank 8",
    "badam": "BAdam", "bank_1pct": "mask, 1 %", "bank_5pct": "mask, 5 %", "bank_20pct": "mask, 20 %",
    "bank_5pct_scattered": "mask, 5 %, scattered", "bank_5pct_cost_aware": "mask, 5 %, cost-aware",
}  # fmt: skip
AXES = {
    "layers": "layers", "width": "width of the model", "budget": "budget, share of all parameters",
    "components": "components", "snapshots": "snapshots", "ranks": "processes",
}  # fmt: skip
COSTS = {
    "step": ("a train step", OURS, "o", "-"), "remask": ("a re-mask", COLOURS["static"], "D", "-"),
    "scoring": ("a scoring pass", COLOURS["oracle"], "^", "-"), "forecast": ("a forecast", COLOURS["prior"], "v", "-"),
    "step_zero2": ("a train step, ZeRO 2", OURS, "o", "-"), "step_zero3": ("a train step, ZeRO 3", OURS, "s", "--"),
    "remask_zero2": ("a re-mask, ZeRO 2", COLOURS["static"], "D", "-"),
    "remask_zero3": ("a re-mask, ZeRO 3", COLOURS["static"], "P", "--"),
}  # fmt: skip
"""Name, colour, marker and line of a cost."""


def save_plots(result: dict[str, Any], clock: str, folder: Path) -> list[Path]:
    """Write train_step and, if it was measured, growth as SVG and PNG; ranges are of the `clock`, "cpu" or "wall"."""
    figures = {"train_step": steps_figure(result, clock)}
    if "growth" in result:
        figures["growth"] = growth_figure(result["growth"], clock)
    folder.mkdir(parents=True, exist_ok=True)
    written = [folder / f"{name}.{kind}" for name in figures for kind in ("svg", "png")]
    for path in written:
        with styled():
            figures[path.stem].savefig(path, dpi=130, metadata={"Date": None} if path.suffix == ".svg" else None)
    return written


@styled()
def steps_figure(result: dict[str, Any], clock: str) -> Figure:
    """Bars of time, with ranges, and of memory for every arm, the slowest at the top; the floor is a dashed line."""
    steps, memory = result["train_step"], result["memory"]
    names = sorted(steps, key=lambda name: steps[name]["over_full"])
    times = [steps[name]["over_full"] for name in names]
    low, high = ([steps[name][clock][end] for name in names] for end in ("low", "high"))
    colours = [_colour(name) for name in names]
    paper = {"facecolor": "white", "edgecolor": "none", "pad": 1}
    text: Any = {"textcoords": "offset points", "va": "center", "fontsize": 9, "bbox": paper, "zorder": 4}
    fig = figure(10, 1.1 + 0.32 * len(names))
    left, right = fig.subplots(1, 2, sharey=True)
    away = (np.subtract(times, low), np.subtract(high, times))
    left.barh(names, times, color=colours, height=0.68)
    left.errorbar(times, names, xerr=away, fmt="none", ecolor="#444444", elinewidth=1.2, capsize=2.5)
    bytes_ = [memory[name]["over_full"] for name in names]
    right.barh(names, bytes_, color=colours, height=0.68)
    for axis, values, ends in ((left, times, high), (right, bytes_, bytes_)):
        for at, (value, end) in enumerate(zip(values, ends, strict=True)):
            axis.annotate(f"{value:.2f}", (end, at), (4, 0), **text)
        axis.axvline(values[names.index("floor")], color=FLOOR, linestyle="--", linewidth=1.2, zorder=3)
        axis.set_xlim(0, 1.12 * max(ends))
        axis.grid(axis="y", visible=False)
        axis.tick_params(axis="y", length=0)
    left.set_yticks(range(len(names)), [ARM_NAMES.get(name, name) for name in names])
    left.set_title(f"{'CPU' if clock == 'cpu' else 'Wall'} time of a train step")
    right.set_title("Memory at its peak")
    note = "full fine-tuning = 1; medians, whiskers: range over rounds; dashed: the floor, without weight gradients"
    fig.supxlabel(note, fontsize=10)
    return fig


@styled()
def growth_figure(growth: dict[str, dict[str, Any]], clock: str) -> Figure:
    """A panel for each axis, both scales logarithmic: medians with ranges, and the fitted power laws."""
    found = [axis for axis in AXES if any(axis in laws for laws in growth.values())]
    fig, axes = panels([""] * len(found), 3.5)
    for name, axis in zip(found, axes, strict=True):
        drawn = [_draw(axis, cost, laws[name]) for cost, laws in growth.items() if name in laws]
        sizes = next(laws[name]["sizes"] for laws in growth.values() if name in laws)
        axis.set(xscale="log", yscale="log", xlabel=AXES[name])
        # Room for the legend: a share of the panel's height, whatever it spans.
        low, high = min(one[0] for one in drawn), max(one[1] for one in drawn)
        share = 0.05 + 0.075 * len(drawn)
        axis.set_ylim(low / 1.15, high * 1.15 * (high / low * 1.3) ** (share / (1 - share)))
        log_ticks(axis.yaxis)
        axis.set_xticks(sizes, [f"{size:,}" for size in sizes])
        axis.minorticks_off()
        axis.set_xlim(sizes[0] / 1.25, sizes[-1] * 1.25)
        axis.legend(loc="upper left", fontsize=8.5, handlelength=1.8, borderaxespad=0.2)
    for axis in axes[::3]:
        axis.set_ylabel("CPU seconds" if clock == "cpu" else "seconds")
    return fig


def _draw(axis: Axes, cost: str, law: dict[str, Any]) -> tuple[float, float]:
    """One cost in a panel; the lowest and highest second drawn."""
    sizes, seconds, ranges = (np.asarray(law[key], float) for key in ("sizes", "seconds", "ranges"))
    name, colour, marker, line = COSTS[cost]
    away = np.abs(ranges.T - seconds)
    axis.errorbar(sizes, seconds, yerr=away, fmt=marker, color=colour, markersize=5, elinewidth=1, capsize=2)
    middle = np.exp(np.log(seconds).mean() + law["exponent"] * (np.log(sizes) - np.log(sizes).mean()))
    label = f"{name}: exponent {law['exponent']:.2f}"
    axis.plot(sizes, middle, line, color=colour, marker=marker, markersize=5, markevery=[], linewidth=1.4, label=label)
    return float(ranges.min()), float(ranges.max())


def _colour(name: str) -> str:
    if name.startswith("bank_"):
        return OURS
    return {"full": WHOLE, "floor": FLOOR}.get(name, PEER)
