"""Heat maps of component scores over steps, one panel per kind of component, with what a mask or circuit holds."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from .style import figure, step_axis, styled

KINDS = {"head": "Attention heads", "kv": "KV groups", "mlp": "MLP blocks"}
MASK = "#ff4f00"
"""Colour of what a mask or circuit contains."""

Box = tuple[int, float, float]
"""(component, start, stop) of an outline around what a mask or circuit contains; stop is at most the last border."""


@styled()
def heatmap(
    scores: np.ndarray, steps: np.ndarray, layer: np.ndarray, kind: np.ndarray, boxes: Iterable[Box]
) -> tuple[Figure, dict[str, tuple[Axes, np.ndarray]]]:
    """Draw scores over steps, as shares of the largest at each step, with layers named on the y axis.

    Args:
        scores: [n, t], not negative.
        steps: [t], of the snapshots; `borders` says where their cells begin and end.
        layer, kind: [n], of each component.
        boxes: what is outlined.

    Returns:
        the figure, and kind -> its panel and the row of every component in it, float [n], NaN for other kinds.
    """
    relative = scores / np.maximum(scores.max(0), np.finfo(np.float32).tiny)
    order, edges = np.argsort(layer, kind="stable"), borders(steps)
    rows = {name: found for name in KINDS if len(found := order[kind[order] == name])}
    most = max(map(len, rows.values()))
    fig = figure(10, float(np.clip(0.06 * most, 3.2, 9)))
    axes = dict(zip(rows, fig.subplots(1, len(rows), squeeze=False)[0], strict=True))
    panels = {}
    for name, axis in axes.items():
        shown = rows[name]
        image = axis.pcolormesh(edges, np.arange(len(shown) + 1), relative[shown], cmap="Blues", vmin=0, vmax=1,
                                rasterized=True)  # fmt: skip
        step_axis(axis, steps.tolist())
        _label_layers(axis, layer[shown])
        axis.set(xlim=(edges[0], edges[-1]), ylim=(len(shown), 0), title=KINDS[name])
        axis.grid(visible=False)
        place = np.full(len(layer), np.nan)
        place[shown] = np.arange(len(shown))
        panels[name] = axis, place
    for component, start, stop in boxes:
        axis, place = panels[kind[component]]
        axis.add_patch(Rectangle((start, place[component]), stop - start, 1, fill=False, edgecolor=MASK,
                                 linewidth=0.9 if most <= 100 else 0.4))  # fmt: skip
    fig.colorbar(image, ax=list(axes.values()), shrink=0.7, pad=0.03).set_label("score / largest at that step")
    return fig, panels


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
