"""From recordings to tidy tables: a list of flat rows a table, each number beside its floor and interval."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
import pyarrow as pa

from ...trajectory.metrics import distance_groups, top_k
from ..circuits.distance import PARTS, distance_statistic, overlap_statistic
from ..circuits.floors import Measured, higher, measure_distance, split_half_floor
from ..circuits.stability import column_of, rank_distances
from .cells import Result
from .distances import across_and_within, halves
from .recording import Recording

Row = dict[str, Any]
Key = tuple[str, str, str, str]
"""(task trained on, strategy, task of the circuit, scorer)."""


@dataclass(frozen=True, eq=False)
class Track:
    """One circuit through one run: the signed, calibrated samples of one scorer on one probe at every snapshot.

    Attributes:
        circuit_of: task whose circuit it is; mostly the task trained on.
        steps: of the snapshots; samples: float64 [n_steps, n_rows, n_components].
        k: components in the circuit; layer, kind, name: arrays [n_components].
    """

    task: str
    strategy: str
    seed: int
    circuit_of: str
    scorer: str
    steps: Sequence[int]
    samples: np.ndarray
    k: int
    layer: np.ndarray
    kind: np.ndarray
    name: np.ndarray

    @property
    def key(self) -> Key:
        return self.task, self.strategy, self.circuit_of, self.scorer

    @property
    def labels(self) -> Row:
        """The columns that every table begins with."""
        return {"task": self.task, "strategy": self.strategy, "seed": self.seed, "circuit_of": self.circuit_of,
                "scorer": self.scorer}  # fmt: skip


def tracks_of(result: Result, recording: Recording) -> Iterator[Track]:
    """Every circuit that a run followed."""
    head, cell = recording.head, result.cell
    for task in head.tasks:
        for scorer in head.scorers:
            samples = np.stack([recording.samples(step, task, scorer) for step in recording.steps])
            calibrated = samples.astype(np.float64) * head.factors(task, scorer)
            names = {field: head.components[field] for field in ("layer", "kind", "name")}
            yield Track(cell.task, cell.strategy, cell.seed, task, scorer, tuple(recording.steps), calibrated,
                        head.circuit, **names)  # fmt: skip


def distance_rows(track: Track) -> list[Row]:
    """Circuit distance of every snapshot from the first ("start") and from the one before ("previous").

    Columns besides the labels: since, from_step, step, kind ("all" or one), measure (jaccard, wasserstein), value, low,
    high (bootstrap over probe examples), floor, floor_high (halves of the probe), excess (see `distances`).
    """
    statistic = distance_statistic(track.k, track.layer, track.kind)
    floors = [split_half_floor(statistic, samples) for samples in track.samples]
    parts = [halves(samples) for samples in track.samples]
    names = [(kind, measure) for kind in distance_groups(track.kind) for measure in PARTS]
    rows = []
    for t in range(1, len(track.steps)):
        for since, s in (("start", 0), ("previous", t - 1)):
            floor = higher(floors[s], floors[t])
            found = measure_distance(statistic, track.samples[s], track.samples[t], floor)
            across, within = across_and_within(statistic, parts[s], parts[t])
            for (kind, measure), one, excess in zip(names, found, across - within, strict=True):
                where = {"since": since, "from_step": track.steps[s], "step": track.steps[t]}
                rows.append(track.labels | where | {"kind": kind, "measure": measure} | asdict(one)
                            | {"excess": float(excess)})  # fmt: skip
    return rows


def staleness_rows(track: Track) -> list[Row]:
    """What the map of step 0 is still worth at every snapshot, as the share of its top k that is in the circuit now.

    Columns: step, overlap, low, high (whole probe), across (halves of the two steps), ceiling (halves of one step: what
    a map that is not stale at all would reach), chance (k/n), lost (ceiling - across) and held, the share
    (across - chance) / (ceiling - chance) of the map that still holds (NaN if a fresh map is no better than chance).
    """
    statistic, chance = overlap_statistic(track.k), track.k / len(track.name)
    first, rows = halves(track.samples[0]), []
    for step, samples in zip(track.steps, track.samples, strict=True):
        found = measure_distance(statistic, track.samples[0], samples)[0]
        across, ceiling = (float(value) for value in across_and_within(statistic, first, halves(samples)))
        held = (across - chance) / (ceiling - chance) if ceiling > chance else float("nan")
        rows.append(track.labels | {
            "step": step, "overlap": found.value, "low": found.low, "high": found.high, "across": across,
            "ceiling": ceiling, "chance": chance, "lost": ceiling - across, "held": held,
        })  # fmt: skip
    return rows


def between_rows(tracks: Sequence[Track]) -> list[Row]:
    """Distance at one step between runs that differ in their seed alone: mean over the pairs of seeds.

    Columns: task, strategy, circuit_of, scorer, step, kind, measure, between_runs, pairs. For strategy random, whose
    masks are drawn from the seed, the runs differ in their mask as well.
    """
    groups: dict[Key, list[Track]] = {}
    for track in tracks:
        groups.setdefault(track.key, []).append(track)
    rows = []
    for members in groups.values():
        track = members[0]
        statistic = distance_statistic(track.k, track.layer, track.kind)
        names = [(kind, measure) for kind in distance_groups(track.kind) for measure in PARTS]
        pairs = list(combinations(members, 2))
        for step in track.steps:
            here = [(a, b) for a, b in pairs if step in a.steps and step in b.steps]
            if not here:
                continue
            ends = zip(*((_mean_at(a, step), _mean_at(b, step)) for a, b in here), strict=True)
            found = statistic(*(np.stack(end) for end in ends)).mean(0)
            labels = {name: value for name, value in track.labels.items() if name != "seed"}
            rows += [labels | {"step": step, "kind": kind, "measure": measure, "between_runs": float(value),
                               "pairs": len(here)}
                     for (kind, measure), value in zip(names, found, strict=True)]  # fmt: skip
    return rows


def stability_rows(track: Track, recording: Recording) -> list[Row]:
    """Stability of the circuit of step s on the model of step t.

    Columns: s, t, measure, value, low, high, floor, floor_high. Measures: faithfulness of s's circuit at t, ratio to
    that of t's own (both for the first scorer only, where they were measured), and rank_distance, 1 - Spearman's rho.
    """
    rows = []

    def add(s: int, t: int, measure: str, found: Measured) -> None:
        rows.append(track.labels | {"s": s, "t": t, "measure": measure} | asdict(found))

    ranks = rank_distances(list(track.samples))
    for i, s in enumerate(track.steps):
        for j, t in enumerate(track.steps):
            add(s, t, "rank_distance", Measured(*(float(getattr(ranks, name)[i, j]) for name in _MEASURED)))
    if track.scorer != recording.head.scorers[0]:
        return rows
    for t in track.steps:
        if (kept := recording.stability(t)) is not None:
            circuits, drops = kept
            column = column_of(drops[track.circuit_of].astype(np.float64), circuits, t)
            for s, faithful, ratio in zip(circuits, column.faithfulness, column.ratio, strict=True):
                add(s, t, "faithfulness", faithful)
                add(s, t, "ratio", ratio)
    return rows


def score_table(track: Track) -> pa.Table:
    """Every component at every snapshot: step, component, layer, kind, score (signed mean), stderr, in_circuit."""
    m, (t, n) = track.samples.shape[1], (len(track.steps), len(track.name))
    scores = track.samples.mean(1)
    inside = np.zeros((t, n), bool)
    for row, at in zip(inside, scores, strict=True):
        row[top_k(np.abs(at), track.k)] = True
    columns = {
        "step": np.repeat(track.steps, n),
        "component": np.tile(track.name, t),
        "layer": np.tile(track.layer, t),
        "kind": np.tile(track.kind, t),
        "score": scores.ravel().astype(np.float32),
        "stderr": (track.samples.std(1, ddof=1) / np.sqrt(m)).ravel().astype(np.float32),
        "in_circuit": inside.ravel(),
    }
    labels = {name: pa.repeat(value, t * n) for name, value in track.labels.items()}
    return pa.table(labels | columns)


def metric_rows(result: Result, recording: Recording) -> list[Row]:
    """Accuracy and loss of every measured task at every snapshot, and what tracking has cost until then."""
    cell, rows = result.cell, []
    for step in recording.steps:
        found = recording.metrics(step)
        labels = {"task": cell.task, "strategy": cell.strategy, "seed": cell.seed, "step": step}
        cost = {"seconds": found.seconds, "tracking_seconds": found.tracking_seconds}
        rows += [labels | {"measured_task": task} | values | cost for task, values in found.tasks.items()]
    return rows


def cost_rows(results: Sequence[Result]) -> list[Row]:
    """Seconds of every run, and the share of them that went into being tracked; its error if it broke off."""
    return [asdict(r.cell) | {"seconds": r.seconds, "tracking_seconds": r.tracking_seconds,
                              "replay_seconds": r.replay_seconds, "tracking_share": r.tracking_share,
                              "trainable": r.trainable, "error": r.error} for r in results]  # fmt: skip


_MEASURED = ("value", "low", "high", "floor", "floor_high")


def condensed(track: Track) -> Track:
    """The same with the mean over rows for its samples: enough for `between_rows`, and small."""
    return replace(track, samples=track.samples.mean(1, keepdims=True))


def _mean_at(track: Track, step: int) -> np.ndarray:
    return track.samples[list(track.steps).index(step)].mean(0)
