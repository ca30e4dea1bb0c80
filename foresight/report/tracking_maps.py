"""Scores of single components over one run: heat maps, and the components that enter and leave the circuit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from .score_maps import KINDS, MASK, borders, outline, score_panels
from .style import figure, styled
from .tracking_figures import KIND_STYLE, step_axis

MOST_ROWS = 30
"""Components shown per kind at most."""
SURE = 2.0
"""Standard errors from the cut at which a component surely is inside or outside (our own definition)."""


@dataclass(frozen=True, eq=False)
class ScoreMap:
    """One circuit over the course of one run.

    Attributes:
        steps: int [t].
        layer, kind, name: [n].
        score, stderr: float [t, n], signed means over probe examples and their standard errors.
        inside: bool [t, n], whether a component is in the circuit.
    """

    task: str
    strategy: str
    seed: int
    scorer: str
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

    def moves(self, entered: bool) -> tuple[list[str], list[str]]:
        """Names of the components that entered (or left) between the first and last step: surely, and within noise."""
        first, last = (self.inside[at] if entered else ~self.inside[at] for at in (0, -1))
        changed = ~first & last
        sure = changed & self.sure[0] & self.sure[-1]
        return self.name[sure].tolist(), self.name[changed & ~sure].tolist()


def read_map(path: str | Path, task: str, strategy: str, seed: int, scorer: str) -> ScoreMap:
    """Read the circuit of `task` in the run that was trained on it, from scores.parquet."""
    wanted = {"task": task, "circuit_of": task, "strategy": strategy, "seed": seed, "scorer": scorer}
    table = pq.read_table(path, filters=[(name, "=", value) for name, value in wanted.items()])
    columns = {name: table.column(name).to_numpy() for name in table.column_names if name not in wanted}
    steps = np.unique(columns["step"])
    shape = len(steps), table.num_rows // len(steps)
    by_step = {name: column.reshape(shape) for name, column in columns.items()}
    parts = {"layer": "layer", "kind": "kind", "name": "component"}
    components = {name: by_step[column][0].astype(str if name != "layer" else int) for name, column in parts.items()}
    numbers = {"score": by_step["score"], "stderr": by_step["stderr"], "inside": by_step["in_circuit"]}
    return ScoreMap(task, strategy, seed, scorer, steps, **components, **numbers)


@styled()
def heatmap(scores: ScoreMap) -> Figure:
    """|score| over steps, with the circuit of each snapshot outlined."""
    size = np.abs(scores.score)
    relative = size / np.maximum(size.max(1, keepdims=True), np.finfo(np.float32).tiny)
    order = np.argsort(scores.layer, kind="stable")
    rows = {kind: found for kind in KINDS if len(found := order[scores.kind[order] == kind])}
    most = max(map(len, rows.values()))
    edges = borders(scores.steps)
    fig = figure(10, float(np.clip(0.06 * most, 3.2, 9)))
    axes, image = score_panels(fig, edges, relative.T, scores.layer, rows)
    for kind, axis in axes.items():
        for at, row in np.argwhere(scores.inside[:, rows[kind]]):
            outline(axis, row, edges[at], edges[at + 1], 0.9 if most <= 100 else 0.4)
        step_axis(axis, scores.steps.tolist())
    bar = fig.colorbar(image, ax=list(axes.values()), shrink=0.7, pad=0.02)
    bar.set_label("|score| / largest at that step")
    fig.legend(handles=[Patch(fill=False, edgecolor=MASK, label="in the circuit at that snapshot")],
               loc="outside upper center")  # fmt: skip
    return fig


@styled()
def comings_and_goings(scores: ScoreMap) -> Figure:
    """Components that are in the circuit at some snapshot, one per row; hollow where within noise of the cut."""
    kinds = [kind for kind in KINDS if scores.inside[:, scores.kind == kind].any()]
    shown = [_rows(scores, kind) for kind in kinds]
    fig = figure(10, 0.19 * max(len(rows) for rows in shown) + 1.3)
    x = np.arange(len(scores.steps))
    axes = fig.subplots(1, len(kinds), squeeze=False)[0]
    for axis, kind, rows in zip(axes, kinds, shown, strict=True):
        paint = KIND_STYLE[kind][0]
        for y, row in enumerate(rows):
            inside, sure = scores.inside[:, row], scores.sure[:, row]
            axis.scatter(x[inside & sure], np.full((inside & sure).sum(), y), marker="s", s=46, color=paint)
            axis.scatter(x[inside & ~sure], np.full((inside & ~sure).sum(), y), marker="s", s=40, facecolor="white",
                         edgecolor=paint, linewidth=1.4)  # fmt: skip
            axis.scatter(x[~inside & ~sure], np.full((~inside & ~sure).sum(), y), s=12, color="#a8a8a8")
        axis.set_yticks(range(len(rows)), scores.name[rows].tolist(), fontsize=8)
        every = -(-len(x) // 8)
        axis.set_xticks(x[::every], [str(step) for step in scores.steps[::every]])
        axis.set_xlim(-0.6, len(x) - 0.4)
        axis.set_ylim(len(rows) - 0.4, -0.6)
        ever = scores.inside[:, scores.kind == kind].any(0).sum()
        left_out = f" ({len(rows)} largest of {ever})" if len(rows) < ever else ""
        axis.set_title(KINDS[kind] + left_out)
        axis.set_xlabel("snapshot (optimizer step)")
    signs = [("s", "#555555", "inside"), ("s", "white", "inside, within noise")]
    signs += [("o", "#a8a8a8", "outside, within noise")]
    handles = [Line2D([], [], marker=marker, linestyle="none", markerfacecolor=paint, label=label,
                      markeredgecolor="#555555" if marker == "s" else paint, markersize=6 if marker == "s" else 4)
               for marker, paint, label in signs]  # fmt: skip
    fig.legend(handles=handles, loc="outside upper center", ncols=3)
    return fig


def _rows(scores: ScoreMap, kind: str) -> np.ndarray:
    """Order the components of a kind that are ever inside by when they entered, then by how long they stay."""
    ever = np.flatnonzero(scores.inside.any(0) & (scores.kind == kind))
    largest = ever[np.argsort(-np.abs(scores.score[:, ever]).max(0), kind="stable")[:MOST_ROWS]]
    came = scores.inside[:, largest].argmax(0)
    return largest[np.lexsort((-scores.inside[:, largest].sum(0), came))]


def in_words(scores: ScoreMap) -> str:
    """Say what entered and what left between the first and the last snapshot, beyond noise and within it."""
    parts = []
    for verb, entered in (("entered", True), ("left", False)):
        sure, unsure = scores.moves(entered)
        named = f" ({', '.join(sure)})" if sure else ""
        parts.append(f"{len(sure)} {verb} beyond noise{named} and {len(unsure)} within it")
    return f"between steps {scores.steps[0]} and {scores.steps[-1]}, {'; '.join(parts)}"


def strongest(scores: ScoreMap, at: int, most: int = 3) -> Sequence[str]:
    """Name the components with the largest |score| at snapshot number `at`."""
    return scores.name[np.argsort(-np.abs(scores.score[at]), kind="stable")[:most]].tolist()
