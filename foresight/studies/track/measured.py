"""What a study measures on the base model and on the final model of each run: conflicts of tasks (of a run that follows
several circuits), and faithfulness over circuit sizes. The results are flat rows; undefined numbers are null.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from itertools import combinations, product
from typing import Any

import numpy as np
from torch import nn

from ...common.errors import DataError
from ...common.numbers import json_rows
from ...model.components import ComponentTable
from ...scoring.edges import edge_scores
from ...scoring.probes import ContrastProbe, Probe
from ...trajectory.metrics import top_k
from ..circuits.boolean import Edge, GateCircuit, conflict, gate_circuit
from ..circuits.conflict import circuit_conflict
from ..circuits.faithfulness import NoBehaviourError, faithfulness_curve

Row = dict[str, Any]
Rows = dict[str, list[Row]]
"""Rows of tables, by the table's name."""

MOST_TASKS = 6
"""So many tasks are measured together; more are measured pair by pair on the base model, and not after every run."""

_log = logging.getLogger(__name__)


def conflict_rows(
    model: nn.Module,
    table: ComponentTable,
    probes: Mapping[str, Probe],
    scores: Mapping[str, np.ndarray],
    k: int,
    edges: float = 0.0,
) -> Rows:
    """Conflicts of every two tasks on one model: signs (see `circuit_conflict`), and boolean (see `_boolean`).

    Args:
        probes, scores: by task; scores [n_components] of this model.
        k: components in a circuit.
        edges: share of all edges that makes a Boolean circuit, on a model without a bank; 0 for no Boolean conflict.
    """
    groups = [tuple(probes)] if len(probes) <= MOST_TASKS else combinations(probes, 2)
    signs = [row for group in groups
             for row in circuit_conflict(model, table, {task: probes[task] for task in group}, scores, k)]  # fmt: skip
    boolean = _boolean(model, table, probes, edges) if edges else []
    return {"signs": json_rows(signs), "boolean": json_rows(boolean)}


def _boolean(model: nn.Module, table: ComponentTable, probes: Mapping[str, Probe], share: float) -> list[Row]:
    """Boolean conflict of every two tasks, in both directions, and of each task with itself as a yardstick.

    Both kinds of edges come from edge attribution with one gradient: *noising* at the clean run, *denoising* at the
    corrupted one, which is the same score with clean and corrupted prompts swapped. Columns: dropped, kept, distance,
    normalised, common, proven, nodes (names).
    """
    circuits: dict[str, GateCircuit] = {}
    for task, probe in probes.items():
        try:
            needed, enough = (_edges(model, table, p, share) for p in (probe, swapped(probe)))
            circuits[task] = gate_circuit(needed, enough)
        except DataError as error:
            _log.warning("no Boolean circuit of %s: %s", task, error)
    ordered = dict.fromkeys(both for pair in combinations(circuits, 2) for both in product(pair, repeat=2))
    found = {(dropped, kept): conflict(circuits[dropped], circuits[kept]) for dropped, kept in ordered}
    return [{"dropped": dropped, "kept": kept, "distance": one.distance, "normalised": one.normalised,
             "common": one.n_common, "proven": one.proven, "nodes": list(one.nodes)}
            for (dropped, kept), one in found.items()]  # fmt: skip


def _edges(model: nn.Module, table: ComponentTable, probe: Probe, share: float) -> list[Edge]:
    """The strongest share of the edges, by name; a pair of nodes (a head is read in three ways) counts once."""
    pairs = list(dict.fromkeys(edge_scores(model, table, probe, top=1 << 40).pairs))  # strongest first
    return pairs[: max(1, round(share * len(pairs)))]


def swapped(probe: Probe) -> Probe:
    """The probe with clean and corrupted prompts swapped."""
    return ContrastProbe(replace(b, input_ids=b.corrupted_ids, corrupted_ids=b.input_ids) for b in probe.batches)


def curve_rows(
    model: nn.Module, table: ComponentTable, probes: Mapping[str, Probe], scores: Mapping[str, np.ndarray]
) -> list[Row]:
    """Faithfulness curves with their areas CPR and CMD (`foresight.studies.circuits.faithfulness`).

    Columns: circuit_of, measure (faithfulness, cpr, cmd, gap), size and fraction (of faithfulness only), value, low,
    high. A task whose behaviour the model does not show has no rows; a warning names it.

    Args:
        probes, scores: by task; corrected scores [n_components] >= 0 of this model.
    """
    rows: list[Row] = []
    for task, probe in probes.items():
        try:
            curve = faithfulness_curve(model, table, probe, top_k(scores[task], len(table)))
        except NoBehaviourError as error:
            _log.warning("no faithfulness curve of %s: %s", task, error)
            continue
        for measure, size, fraction, found in curve:
            labels = {"circuit_of": task, "measure": measure, "size": size, "fraction": fraction}
            rows.append(labels | {"value": found.value, "low": found.low, "high": found.high})
    return json_rows(rows)
