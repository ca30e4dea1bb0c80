"""Heat maps of component scores over steps, one panel per kind of component."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

KINDS = {"head": "Attention heads", "kv": "KV groups", "mlp": "MLP blocks"}
MASK = "#ff4f00"
"""Colour of what a mask or circuit contains."""


def score_panels(
    fig: Figure, edges: np.ndarray, relative: np.ndarray, layer: np.ndarray, rows: Mapping[str, np.ndarray]
) -> tuple[dict[str, Axes], QuadMesh]:
    """Draw scores over steps, one panel per kind, with layers named on the y axis.

    Args:
        edges: [t + 1], where the cells of the t snapshots begin and end.
        relative: [n, t], scores as shares of the largest.
        layer: [n], of each component.
        rows: kind -> its components in drawing order, ascending by layer.

    Returns:
        the panels by kind, and the image of the last one, for a colour bar.
    """
    axes = dict(zip(rows, fig.subplots(1, len(rows), squeeze=False)[0], strict=True))
    for kind, axis in axes.items():
        shown = rows[kind]
        image = axis.pcolormesh(edges, np.arange(len(shown) + 1), relative[shown], cmap="Blues", vmin=0, vmax=1,
                                rasterized=True)  # fmt: skip
        _label_layers(axis, layer[shown])
        axis.set_xlim(edges[0], edges[-1])
        axis.set_ylim(len(shown), 0)
        axis.set_title(KINDS[kind])
        axis.grid(visible=False)
    return axes, image


def outline(axis: Axes, row: int, start: float, stop: float, width: float) -> None:
    """Outline a row of a panel from one edge to another; `width` is the line width in points."""
    axis.add_patch(Rectangle((start, row), stop - start, 1, fill=False, edgecolor=MASK, linewidth=width))


def borders(steps: np.ndarray) -> np.ndarray:
    """Place cell borders halfway between snapshots, with the first and last snapshot at the outer borders."""
    steps = steps.astype(float)
    if len(steps) == 1:
        return np.array([steps[0], steps[0] + 1])
    return np.concatenate([steps[:1], (steps[1:] + steps[:-1]) / 2, steps[-1:]])


def _label_layers(axis: Axes, layers: np.ndarray) -> None:
    """Name the layers on the y axis, with lines between them; row i belongs to `layers[i]`, in ascending order."""
    starts = np.flatnonzero(np.diff(layers, prepend=-1))
    for start in starts[1:]:
        axis.axhline(start, color="#777777", linewidth=0.8)
    middles = [(start + stop) / 2 for start, stop in zip(starts, [*starts[1:], len(layers)], strict=True)]
    every = -(-len(starts) // 32)
    axis.set_yticks(middles[::every], [f"layer {layers[start]}" for start in starts[::every]])
    axis.tick_params(axis="y", length=0)
