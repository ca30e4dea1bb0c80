"""Scores of single components over one run: heat maps, and the components that enter and leave the circuit."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from . import score_maps
from .score_maps import KINDS, MASK
from .style import figure, shared_legend, styled

MOST_ROWS = 30
"""Components shown per kind at most."""
SURE = 2.0
"""Standard errors from the cut at which a component surely is inside or outside (our own definition)."""


@dataclass(frozen=True, eq=False)
class ScoreMap:
    """One circuit over the course of one run.

    Attributes:
        title: names the run.
        steps: int [t].
        layer, kind, name: [n].
        score, stderr: float [t, n], signed means over probe examples and their standard errors.
        inside: bool [t, n], whether a component is in the circuit.
    """

    title: str
    steps: np.ndarray
    layer: np.ndarray
    kind: np.ndarray
    name: np.ndarray
    score: np.ndarray
    stderr: np.ndarray
    inside: np.ndarray

    @property
    def margin(self) -> np.ndarray:
        """How far |score| is above the cut between ranks k and k + 1, in standard errors: float [t, n]."""
        size = np.abs(self.score)
        lowest = np.where(self.inside, size, np.inf).min(1)
        highest = np.where(self.inside, -np.inf, size).max(1)
        cut = np.where(np.isfinite(highest), (lowest + highest) / 2, 0.0)
        return (size - cut[:, None]) / np.maximum(self.stderr, np.finfo(np.float32).tiny)

    @property
    def sure(self) -> np.ndarray:
        """Whether a component is at least `SURE` standard errors from the cut, on either side: bool [t, n]."""
        return np.abs(self.margin) >= SURE

    @property
    def words(self) -> str:
        """What entered and what left between the first and the last snapshot, beyond noise and within it."""
        parts = []
        for verb, (before, after) in (("entered", self.inside[[0, -1]]), ("left", ~self.inside[[0, -1]])):
            changed, sure = ~before & after, self.sure[0] & self.sure[-1]
            names = self.name[changed & sure].tolist()
            named = f" ({', '.join(names)})" if names else ""
            parts.append(f"{len(names)} {verb} beyond noise{named} and {(changed & ~sure).sum()} within it")
        return f"between steps {self.steps[0]} and {self.steps[-1]}, {'; '.join(parts)}"


def read_map(path: str | Path, **run: Any) -> ScoreMap:
    """Read the circuit of a run's own task from scores.parquet; `run` gives task, strategy, seed and scorer."""
    wanted = run | {"circuit_of": run["task"]}
    table = pq.read_table(path, filters=[(name, "=", value) for name, value in wanted.items()])
    steps = np.unique(table.column("step").to_numpy())
    columns = {name: table.column(name).to_numpy().reshape(len(steps), -1) for name in table.column_names}
    kind, name = (columns[part][0].astype(str) for part in ("kind", "component"))
    return ScoreMap(f"{run['task']} ({run['strategy']}, seed {run['seed']})", steps, columns["layer"][0], kind, name,
                    columns["score"], columns["stderr"], columns["in_circuit"])  # fmt: skip


@styled()
def heatmap(scores: ScoreMap) -> Figure:
    """|score| over steps, with the circuit of each snapshot outlined."""
    edges = score_maps.borders(scores.steps)
    boxes = [(component, edges[at], edges[at + 1]) for at, component in np.argwhere(scores.inside)]
    fig, _ = score_maps.heatmap(np.abs(scores.score).T, scores.steps, scores.layer, scores.kind, boxes)
    fig.legend(handles=[Patch(fill=False, edgecolor=MASK, label="in the circuit at that snapshot")],
               loc="outside upper center")  # fmt: skip
    return fig


@styled()
def comings_and_goings(scores: ScoreMap) -> Figure:
    """Components that are in the circuit at some snapshot, one per row; hollow where within noise of the cut."""
    kinds = [kind for kind in KINDS if scores.inside[:, scores.kind == kind].any()]
    shown = [_rows(scores, kind) for kind in kinds]
    fig = figure(10, 0.19 * max(len(rows) for rows in shown) + 1.3)
    axes = fig.subplots(1, len(kinds), squeeze=False)[0]
    ticks = np.arange(len(scores.steps))[:: -(-len(scores.steps) // 8)]
    for axis, kind, rows in zip(axes, kinds, shown, strict=True):
        inside, sure = scores.inside[:, rows].T, scores.sure[:, rows].T
        for label, where, style in (
            ("inside", inside & sure, {"marker": "s", "s": 46, "color": MASK}),
            ("inside, within noise", inside & ~sure, {"marker": "s", "s": 40, "facecolor": "white", "edgecolor": MASK}),
            ("outside, within noise", ~inside & ~sure, {"s": 12, "color": "#a8a8a8"}),
        ):
            y, x = np.nonzero(where)
            axis.scatter(x, y, label=label, **style)
        axis.set_yticks(range(len(rows)), scores.name[rows].tolist(), fontsize=8)
        axis.set_xticks(ticks, [str(step) for step in scores.steps[ticks]])
        axis.set(xlim=(-0.6, len(scores.steps) - 0.4), ylim=(len(rows) - 0.4, -0.6))
        ever = scores.inside[:, scores.kind == kind].any(0).sum()
        left_out = f" ({len(rows)} largest of {ever})" if len(rows) < ever else ""
        axis.set(title=KINDS[kind] + left_out, xlabel="snapshot (optimizer step)")
    shared_legend(fig, axes[:1], 3)
    return fig


def _rows(scores: ScoreMap, kind: str) -> np.ndarray:
    """Order the components of a kind that are ever inside by when they entered, then by how long they stay."""
    ever = np.flatnonzero(scores.inside.any(0) & (scores.kind == kind))
    largest = ever[np.argsort(-np.abs(scores.score[:, ever]).max(0), kind="stable")[:MOST_ROWS]]
    came = scores.inside[:, largest].argmax(0)
    return largest[np.lexsort((-scores.inside[:, largest].sum(0), came))]
