"""Colours, sizes and the way a figure gets into a page."""

from __future__ import annotations

import base64
import colorsys
import io
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

COLOURS = {
    "full": "#1a1a1a",
    "random": "#8c8c8c",
    "prior": "#cc79a7",
    "static": "#e69f00",
    "reactive": "#56b4e9",
    "foresight": "#0072b2",
    "oracle": "#009e73",
}
"""By arm, the same in every figure and table: the palette of Okabe and Ito, told apart with any colour vision."""

MARKERS = {"full": "s", "random": "x", "prior": "v", "static": "D", "reactive": "^", "foresight": "o", "oracle": "*"}
"""A second way to tell the arms apart, for prints without colour."""


@dataclass(frozen=True)
class Look:
    """How an arm is drawn, the same in every figure."""

    colour: str
    marker: str
    line: str


def looks(names: Iterable[str]) -> dict[str, Look]:
    """A look for every arm: COLOURS and MARKERS for those that have them, made up in turn for the others."""
    found: dict[str, Look] = {}
    others = 0
    for name in names:
        if name in COLOURS:
            found[name] = Look(COLOURS[name], MARKERS[name], "-")
            continue
        hue = (0.03 + 0.618034 * others) % 1  # the golden ratio: neighbours in the list are far apart in colour
        colour = to_hex(colorsys.hsv_to_rgb(hue, 0.75, 0.72))
        found[name] = Look(colour, "PX<>pdhH8"[others % 9], ("--", "-.", ":")[others % 3])
        others += 1
    return found


_RC: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#555555",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.8,
    "legend.frameon": False,
    "svg.fonttype": "path",
    "svg.hashsalt": "foresight",
}


def figure(width: float, height: float) -> Figure:
    """An empty figure in the report's style; width and height in inches."""
    with matplotlib.rc_context(_RC):
        return Figure(figsize=(width, height), layout="constrained", facecolor="white")


def panels(n: int, height: float) -> tuple[Figure, list[Axes]]:
    """A figure with n panels side by side, three to a row; height in inches of a row."""
    columns = max(1, min(3, n))
    rows = -(-max(1, n) // columns)
    fig = figure(10, height * rows + 0.4)
    with styled():
        axes = list(fig.subplots(rows, columns, squeeze=False).flatten())
    for axis in axes[n:]:
        axis.set_visible(False)
    return fig, axes[:n]


def styled():
    """Context in which axes are made and drawn in the report's style."""
    return matplotlib.rc_context(_RC)


def borders(steps: np.ndarray) -> np.ndarray:
    """Cell borders halfway between snapshots, the first and last snapshot at the outer border."""
    steps = steps.astype(float)
    if len(steps) == 1:
        return np.array([steps[0], steps[0] + 1])
    return np.concatenate([steps[:1], (steps[1:] + steps[:-1]) / 2, steps[-1:]])


def label_layers(axis: Axes, layers: np.ndarray) -> None:
    """Name the layers on the y axis where rows 0, 1, ... belong to `layers` [rows], ascending, with lines between."""
    starts = np.flatnonzero(np.diff(layers, prepend=-1))
    for start in starts[1:]:
        axis.axhline(start, color="#777777", linewidth=0.8)
    middles = [(start + stop) / 2 for start, stop in zip(starts, [*starts[1:], len(layers)], strict=True)]
    every = -(-len(starts) // 32)
    axis.set_yticks(middles[::every], [f"layer {layers[start]}" for start in starts[::every]])
    axis.tick_params(axis="y", length=0)


def log_ticks(axis: Any) -> None:
    """Plain numbers at 1, 2 and 5 times the powers of ten, on the x or y axis of a panel with a logarithmic scale."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter("")


def shared_legend(fig: Figure, axes: Iterable[Axes], columns: int) -> None:
    """One legend above all panels, with each label once, whichever panels have it."""
    handles = {label: handle for axis in axes for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    fig.legend(handles.values(), handles.keys(), loc="outside upper center", ncols=columns)


def data_uri(fig: Figure) -> str:
    """The figure as an SVG in a data URI: part of the page, no request, the same bytes for the same figure."""
    buffer = io.BytesIO()
    with matplotlib.rc_context(_RC):
        fig.savefig(buffer, format="svg", metadata={"Date": None})
    return "data:image/svg+xml;base64," + base64.b64encode(buffer.getvalue()).decode()
