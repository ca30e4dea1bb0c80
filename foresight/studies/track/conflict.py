"""Conflict of the tasks of a study: on the base model, and on tuned ones where a run follows several circuits.

By the sign of the utility (`foresight.studies.circuits.conflict`), and, where edges are asked for, by Boolean logic
(`foresight.studies.circuits.boolean`). The Boolean circuits need edges of two kinds, both by edge attribution with one
gradient: *noising* takes it at the clean run (what is lost without the edge), *denoising* at the corrupted one (what
the edge alone restores), which is the same score with clean and corrupted prompts exchanged.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from itertools import combinations, product
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import nn

from ...common.errors import DataError
from ...common.files import json_rows
from ...scoring.edges import edge_scores
from ...scoring.probes import ContrastProbe, Probe
from ..circuits.boolean import task_conflicts
from ..circuits.conflict import MOST_TASKS, circuit_conflict
from ..circuits.floors import Measured
from ..circuits.gates import GateCircuit, gate_circuit, top_edges

if TYPE_CHECKING:
    from ...model.components import ComponentTable

Row = dict[str, Any]
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Conflicts:
    """Flat rows.

    Attributes:
        signs: task_a, task_b, value, low, high, floor, floor_high, shared (components in both circuits) and opposed
            (names of those that the tasks pull in opposite directions).
        boolean: dropped, kept, distance, normalised, common, proven, nodes (names); empty without edges.
    """

    signs: list[Row]
    boolean: list[Row]

    def to_json(self) -> dict[str, list[Row]]:
        """Undefined numbers become null."""
        return {name: json_rows(rows) for name, rows in asdict(self).items()}


def conflicts(
    model: nn.Module,
    table: ComponentTable,
    probes: Mapping[str, Probe],
    scores: Mapping[str, np.ndarray],
    k: int,
    edges: float = 0.0,
) -> Conflicts:
    """Conflicts of every two tasks on one model with its stored weights, or with a bank's if there are no edges.

    Args:
        probes, scores: by task; scores [n_components] of this model.
        k: components in a circuit.
        edges: share of all edges that makes a Boolean circuit; 0 for none.
    """
    tasks, signs = list(probes), []
    groups = [tasks] if len(tasks) <= MOST_TASKS else [list(pair) for pair in combinations(tasks, 2)]
    for group in groups:
        found = circuit_conflict(model, table, {t: probes[t] for t in group}, {t: scores[t] for t in group}, k)
        for i, j in combinations(range(len(group)), 2):
            measured = {name: float(getattr(found.conflict, name)[i, j]) for name in Measured.__dataclass_fields__}
            opposed = [str(table.name[c]) for c in found.opposed[group[i], group[j]]]
            signs.append({"task_a": group[i], "task_b": group[j], **measured, "shared": int(found.shared[i, j]),
                          "opposed": opposed})  # fmt: skip
    return Conflicts(signs, _boolean(model, table, probes, edges) if edges else [])


def _boolean(model: nn.Module, table: ComponentTable, probes: Mapping[str, Probe], share: float) -> list[Row]:
    circuits: dict[str, GateCircuit] = {}
    for task, probe in probes.items():
        try:
            needed, enough = (_edges(model, table, p, share) for p in (probe, _exchanged(probe)))
            circuits[task] = gate_circuit(needed, enough)
        except DataError as error:
            _log.warning("no Boolean circuit of %s: %s", task, error)
    rows: list[Row] = []
    for pair in combinations(circuits, 2):
        found = task_conflicts({task: circuits[task] for task in pair})
        for i, j in product((0, 1), repeat=2):
            if i == j and any(row["dropped"] == row["kept"] == pair[i] for row in rows):
                continue  # a task against itself, the yardstick of the others, once
            one = found.pairs[i][j]
            rows.append({"dropped": pair[i], "kept": pair[j], "distance": one.distance, "normalised": one.normalised,
                         "common": one.n_common, "proven": one.proven, "nodes": list(one.nodes)})  # fmt: skip
    return rows


def _edges(model: nn.Module, table: ComponentTable, probe: Probe, share: float) -> set[tuple[str, str]]:
    """The strongest edges, by name; a pair of nodes counts once."""
    found = edge_scores(model, table, probe, top=1 << 40)
    pairs = [(found.names[a], found.names[b]) for a, b in zip(found.source, found.destination, strict=True)]
    return top_edges(pairs, found.score, max(1, round(share * len(set(pairs)))))


def _exchanged(probe: Probe) -> Probe:
    """The probe with clean and corrupted prompts in each other's place."""
    parts = (replace(b, input_ids=b.corrupted_ids, corrupted_ids=b.input_ids) for b in probe.batches)
    return ContrastProbe(parts)
