"""The plots of circuits in a comparison: scores over time with the mask outlined, and forecast against final scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from ..studies.compare.results import LastForecast
from ..trajectory.series import Series
from . import score_maps
from .score_maps import MASK
from .style import panels, shared_legend, styled

CIRCUIT = "#0b7a5b"


@dataclass(frozen=True)
class Picture:
    """One task and seed: the recorded full run, what an arm trained, and what it forecast.

    Attributes:
        series: scores of the full run.
        schedule: (step, component names) of the arm; empty if it failed or trains no components.
        realised: the circuit at the end of the full run.
        forecast: the arm's last forecast.
        arm: label of the arm.
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


GROUPS = (
    # in the mask, in the circuit
    (False, False, "#bdbdbd", "o", "neither"),
    (True, False, MASK, "X", "trained, not in the circuit"),
    (False, True, "#e69f00", "D", "in the circuit, missed"),
    (True, True, CIRCUIT, "o", "trained and in the circuit"),
)
FLOOR = 1e-3


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
