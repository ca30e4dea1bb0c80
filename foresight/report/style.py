"""What all figures share: colours, panels, axes, and how a figure becomes part of a page."""

from __future__ import annotations

import base64
import colorsys
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
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
"""Colour by arm, the same in every figure and table: Okabe and Ito's palette, which suits all colour vision."""

MARKERS = {"full": "s", "random": "x", "prior": "v", "static": "D", "reactive": "^", "foresight": "o", "oracle": "*"}
"""Marker by arm, which tells arms apart in print without colour."""

MOST_LABELS = 7
"""Snapshots that are labelled on an axis, at most."""


@dataclass(frozen=True)
class Look:
    """How an arm is drawn, in every figure."""

    colour: str
    marker: str
    line: str


def looks(names: Iterable[str]) -> dict[str, Look]:
    """Give every arm a look: from COLOURS and MARKERS if it is there, otherwise made up in turn."""
    given = list(names)
    found = {name: Look(COLOURS[name], MARKERS[name], "-") for name in given if name in COLOURS}
    for i, name in enumerate(name for name in given if name not in COLOURS):
        hue = (0.03 + 0.618034 * i) % 1  # the golden ratio, so that neighbours in the list differ most in colour
        colour = to_hex(colorsys.hsv_to_rgb(hue, 0.75, 0.72))
        found[name] = Look(colour, "PX<>pdhH8"[i % 9], ("--", "-.", ":")[i % 3])
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
    """Make an empty figure; width and height are in inches. Call it in a `styled` function."""
    return Figure(figsize=(width, height), layout="constrained", facecolor="white")


def panels(titles: Sequence[str], height: float, x: str = "", y: str = "") -> tuple[Figure, list[Axes]]:
    """Make a figure with a panel per title, three to a row.

    Args:
        height: of a row, in inches.
        x, y: labels of every x axis, and of the first y axis.
    """
    n = len(titles)
    columns = min(3, n) or 1
    rows = -(-n // columns) or 1
    fig = figure(10, height * rows + 0.4)
    axes = list(fig.subplots(rows, columns, squeeze=False).flatten())
    for axis, title in zip(axes, titles, strict=False):
        axis.set(title=title, xlabel=x)
    for axis in axes[n:]:
        axis.set_visible(False)
    axes[0].set_ylabel(y)
    return fig, axes[:n]


def styled():
    """Context, or decorator, in which axes are created and drawn in the report's style."""
    return matplotlib.rc_context(_RC)


def log_ticks(axis: Any) -> None:
    """Label an x or y axis of logarithmic scale with plain numbers at 1, 2 and 5 times the powers of ten."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter("")


def step_axis(axis: Axes, steps: Iterable[int]) -> None:
    """Put ticks at snapshots, at most `MOST_LABELS` of them."""
    known = sorted(set(steps))
    axis.set_xticks(known[:: -(-len(known) // MOST_LABELS)])
    axis.set_xlabel("optimizer step")


def shared_legend(fig: Figure, axes: Iterable[Axes], columns: int) -> None:
    """Draw one legend above all panels, with each label once."""
    handles = {label: handle for axis in axes for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    fig.legend(handles.values(), handles.keys(), loc="outside upper center", ncols=columns)


def data_uri(fig: Figure) -> str:
    """Turn a figure into an SVG data URI, which is part of the page; the same figure gives the same bytes."""
    buffer = io.BytesIO()
    with styled():
        fig.savefig(buffer, format="svg", metadata={"Date": None})
    return "data:image/svg+xml;base64," + base64.b64encode(buffer.getvalue()).decode()
