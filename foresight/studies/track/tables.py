"""From recordings to tidy tables: each table is a list of flat rows, each number beside its floor and interval."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations, product
from typing import Any

import numpy as np
import pyarrow as pa

from ...trajectory.distances import distance_groups, in_circuit
from ..circuits.distance import PARTS, across_and_within, distance_statistic, overlap_statistic, rank_distances
from ..circuits.faithfulness import stability
from ..circuits.floors import Statistic, bootstrap, half_means, higher, measure_distance, split_half_floor
from .cells import Measures, Record
from .measured import Row, Rows
from .recording import Recording

Tables = Rows


@dataclass(frozen=True, eq=False)
class Track:
    """One circuit through one run: the signed, corrected samples of one scorer on one probe at every snapshot.

    Attributes:
        labels: the columns that every table begins with: task, strategy and seed of the run, circuit_of (the task whose
            circuit it is), scorer.
        samples: float64 [n_steps, n_rows, n_components].
        k: components in the circuit.
        layer, kind, name: arrays [n_components].
    """

    labels: Row
    steps: Sequence[int]
    samples: np.ndarray
    k: int
    layer: np.ndarray
    kind: np.ndarray
    name: np.ndarray

    @property
    def distance(self) -> Statistic:
        """`distance_statistic` of this circuit; its columns are `distances`."""
        return distance_statistic(self.k, self.layer, self.kind)

    @property
    def distances(self) -> list[Row]:
        """Kind ("all" or one) and measure (jaccard, wasserstein) of each number of `distance`."""
        return [{"kind": kind, "measure": part} for kind in distance_groups(self.kind) for part in PARTS]


def tracks_of(result: Record, recording: Recording) -> Iterator[Track]:
    """Every circuit that a run followed."""
    head, steps = recording.head, recording.steps
    arrays = {field: head.components[field] for field in ("layer", "kind", "name")}
    for task, scorer in product(head.tasks, head.scorers):
        samples = np.stack([recording.samples(step, task, scorer) for step in steps]).astype(np.float64)
        labels = result.cell.names | {"circuit_of": task, "scorer": scorer}
        yield Track(labels, tuple(steps), head.corrected(task, scorer, samples), head.circuit, **arrays)


def distance_rows(track: Track) -> list[Row]:
    """Circuit distance of every snapshot from the first ("start") and from the previous one ("previous").

    Columns besides the labels: since, from_step, step, kind, measure, value, low, high (bootstrap over probe examples),
    floor, floor_high (halves of the probe), excess (see `foresight.studies.circuits.distance`).
    """
    floors = [split_half_floor(track.distance, samples) for samples in track.samples]
    halves = [half_means(samples) for samples in track.samples]
    rows = []
    for t in range(1, len(track.steps)):
        for since, s in (("start", 0), ("previous", t - 1)):
            floor = higher(floors[s], floors[t])
            found = measure_distance(track.distance, track.samples[s], track.samples[t], floor)
            across, within = across_and_within(track.distance, halves[s], halves[t])
            where = {"since": since, "from_step": track.steps[s], "step": track.steps[t]}
            rows += [track.labels | where | names | asdict(one) | {"excess": float(excess)}
                     for names, one, excess in zip(track.distances, found, across - within, strict=True)]  # fmt: skip
    return rows


def staleness_rows(track: Track) -> list[Row]:
    """What the map of step 0 is still worth at every snapshot: the share of its top k that is in the circuit now.

    Columns: step, overlap, low, high (whole probe), across (halves of the two steps), ceiling (halves of one step: what
    a fresh map would reach), chance (k/n), lost (ceiling - across) and held, the share of the map that still holds:
    (across - chance) / (ceiling - chance), NaN if a fresh map is no better than chance.
    """
    statistic, chance = overlap_statistic(track.k), track.k / len(track.name)
    start, first, rows = track.samples[0], half_means(track.samples[0]), []
    for step, samples in zip(track.steps, track.samples, strict=True):
        whole = statistic(start.mean(0, keepdims=True), samples.mean(0, keepdims=True))[0]
        low, high = bootstrap(statistic, start, samples)
        across, ceiling = (float(value) for value in across_and_within(statistic, first, half_means(samples)))
        held = (across - chance) / (ceiling - chance) if ceiling > chance else float("nan")
        overlap = {"overlap": float(whole), "low": float(low), "high": float(high), "across": across}
        worth = {"ceiling": ceiling, "chance": chance, "lost": ceiling - across, "held": held}
        rows.append(track.labels | {"step": step} | overlap | worth)
    return rows


def between_rows(tracks: Sequence[Track]) -> list[Row]:
    """Distance at one step between runs that differ only in their seed: the mean over the pairs of seeds.

    Columns: task, strategy, circuit_of, scorer, step, kind, measure, between_runs, pairs. With strategy random, whose
    masks are drawn from the seed, the runs differ in their mask as well.
    """
    rows = []
    every = (track.labels | {"track": track} for track in tracks)
    for labels, members in grouped(every, "task", "strategy", "circuit_of", "scorer"):
        runs = [row["track"] for row in members]
        for step in runs[0].steps:
            means = [one.samples[list(one.steps).index(step)].mean(0) for one in runs if step in one.steps]
            if pairs := list(combinations(means, 2)):
                found = runs[0].distance(*map(np.stack, zip(*pairs, strict=True))).mean(0)
                rows += [labels | {"step": step} | names | {"between_runs": float(value), "pairs": len(pairs)}
                         for names, value in zip(runs[0].distances, found, strict=True)]  # fmt: skip
    return rows


def stability_rows(track: Track, recording: Recording) -> list[Row]:
    """Stability of the circuit of step s on the model of step t.

    Columns: s, t, measure, value, low, high, floor, floor_high. Measures: rank_distance; for the first scorer, where it
    was measured, also the faithfulness of s's circuit at t and its ratio to that of t's own.
    """
    ranks = (one for of_step in rank_distances(track.samples) for one in of_step)
    found = [(s, t, "rank_distance", one) for (s, t), one in zip(product(track.steps, repeat=2), ranks, strict=True)]
    is_first = track.labels["scorer"] == recording.head.scorers[0]
    for t in track.steps:
        if is_first and (kept := recording.stability(t)) is not None:
            circuits, drops = kept
            columns = stability(drops[track.labels["circuit_of"]].astype(np.float64), circuits.index(t))
            for s, faithful, ratio in zip(circuits, *columns, strict=True):
                found += [(s, t, "faithfulness", faithful), (s, t, "ratio", ratio)]
    return [track.labels | {"s": s, "t": t, "measure": measure} | asdict(one) for s, t, measure, one in found]


def score_table(track: Track) -> pa.Table:
    """Every component at every snapshot: step, component, layer, kind, score (signed mean), stderr, in_circuit."""
    t, m, n = track.samples.shape
    scores = track.samples.mean(1)
    columns = {
        "step": np.repeat(track.steps, n),
        "component": np.tile(track.name, t),
        "layer": np.tile(track.layer, t),
        "kind": np.tile(track.kind, t),
        "score": scores.ravel().astype(np.float32),
        "stderr": (track.samples.std(1, ddof=1) / np.sqrt(m)).ravel().astype(np.float32),
        "in_circuit": in_circuit(np.abs(scores), track.k).ravel(),
    }
    labels = {name: pa.repeat(value, t * n) for name, value in track.labels.items()}
    return pa.table(labels | columns)


def metric_rows(result: Record, recording: Recording) -> list[Row]:
    """Accuracy and loss of every measured task at every snapshot, and the time spent until then."""
    snapshots = [(step, recording.metrics(step)) for step in recording.steps]
    return [
        result.cell.names | {"step": step, "measured_task": task} | values
        | {"seconds": found.seconds, "tracking_seconds": found.tracking_seconds}
        for step, found in snapshots for task, values in found.tasks.items()
    ]  # fmt: skip


def cost_rows(results: Sequence[Record]) -> list[Row]:
    """Seconds of every run, the share of them that tracking took, and the error of a run that failed."""
    names = ("seconds", "tracking_seconds", "replay_seconds", "tracking_share", "trainable")
    measured = [(record, record.measures or Measures()) for record in results]
    return [r.cell.names | {name: getattr(m, name) for name in names} | {"error": r.error} for r, m in measured]


def grouped(rows: Iterable[Row], *names: str) -> list[tuple[Row, list[Row]]]:
    """Rows by the values of some columns, in the order of first appearance."""
    groups: dict[tuple, list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row[name] for name in names), []).append(row)
    return [(dict(zip(names, key, strict=True)), members) for key, members in groups.items()]


def where(rows: Iterable[Row], **wanted: Any) -> list[Row]:
    """The rows that have these values."""
    return [row for row in rows if wanted.items() <= row.items()]


def values(rows: Iterable[Row], column: str) -> list:
    """The distinct values of a column, in the order of first appearance."""
    return list(dict.fromkeys(row[column] for row in rows))
