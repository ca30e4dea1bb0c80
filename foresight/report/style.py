"""Colours, sizes and the way a figure gets into a page."""

from __future__ import annotations

import base64
import io
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

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


def data_uri(fig: Figure) -> str:
    """The figure as an SVG in a data URI: part of the page, no request, the same bytes for the same figure."""
    buffer = io.BytesIO()
    with matplotlib.rc_context(_RC):
        fig.savefig(buffer, format="svg", metadata={"Date": None})
    return "data:image/svg+xml;base64," + base64.b64encode(buffer.getvalue()).decode()
