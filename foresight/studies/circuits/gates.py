"""The Boolean gates of a task's circuit, derived from a noising and a denoising run.

*Noising* corrupts one edge of the clean run (gradient at the clean run) and finds what is necessary. *Denoising*
restores one edge in the corrupted run (gradient at the corrupted run) and finds what is sufficient. If each of two
inputs is sufficient (OR), breaking one changes nothing but restoring one does, so only denoising detects them. If both
are necessary (AND), only noising does. Inputs whose effects add up (ADDER) are detected by both. Source: Chen et al.,
"Rethinking Circuit Completeness in Language Models: AND, OR, and ADDER Gates" (arXiv 2505.10039), used in CLUE (arXiv
2509.20977). An edge here is a plain pair (source node, destination node).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from graphlib import CycleError, TopologicalSorter

import numpy as np

from ...common.errors import ConfigError, DataError, NonFiniteError

Edge = tuple[str, str]


class Gate(StrEnum):
    """How a node combines the in-edges of one group."""

    AND = "AND"
    OR = "OR"
    ADDER = "ADDER"


@dataclass(frozen=True)
class GateCircuit:
    """A task's circuit as gates: every edge lies on a path from the input to the output, and there is no cycle.

    Attributes:
        gates: the gate of every edge, ordered by the edges' names.
        source: name of the node that everything starts from (the prompt).
        target: name of the output node (the logits).
    """

    gates: Mapping[Edge, Gate]
    source: str = "input"
    target: str = "logits"

    @cached_property
    def components(self) -> tuple[str, ...]:
        """The nodes between input and output, sorted by name: what two circuits can share."""
        return tuple(sorted({node for edge in self.gates for node in edge} - {self.source, self.target}))

    @cached_property
    def groups(self) -> dict[str, dict[Gate, list[str]]]:
        """For every node with in-edges: the source nodes of each of its gates."""
        groups: dict[str, dict[Gate, list[str]]] = defaultdict(lambda: defaultdict(list))
        for (source, destination), gate in self.gates.items():
            groups[destination][gate].append(source)
        return {node: dict(inputs) for node, inputs in groups.items()}


def gate_circuit(
    noising: Iterable[Edge], denoising: Iterable[Edge], source: str = "input", target: str = "logits"
) -> GateCircuit:
    """Combine the noising and the denoising circuit of a task.

    Both are first reduced to their edges on a path from `source` to `target`. Of the edges that only denoising has, two
    or more into the same node are OR; of those that only noising has, two or more into the same node are AND; all
    others are ADDER. (CLUE's program also counts a lone edge of the other circuit towards the two; we keep to the plain
    rule.)

    Args:
        noising: edges that the task needs.
        denoising: edges that are sufficient for the task.

    Raises:
        DataError: the edges form a cycle, or one of the two circuits has no path from input to output.
    """
    noising, denoising = set(noising), set(denoising)
    _check_acyclic(noising | denoising)
    circuits = []
    for name, edges in (("noising", noising), ("denoising", denoising)):
        circuits.append(on_path(edges, source, target))
        if not circuits[-1]:
            raise DataError(
                f"the {name} circuit of {len(edges)} edges has no path from {source!r} to {target!r}; take more edges"
            )
    needed, enough = circuits
    gates = dict.fromkeys(needed | enough, Gate.ADDER)
    for gate, edges in ((Gate.OR, enough - needed), (Gate.AND, needed - enough)):
        fan_in = Counter(destination for _, destination in edges)
        gates.update({edge: gate for edge in edges if fan_in[edge[1]] >= 2})
    return GateCircuit({edge: gates[edge] for edge in sorted(gates)}, source, target)


def top_edges(edges: Sequence[Edge], scores: np.ndarray, k: int) -> set[Edge]:
    """The k edges of largest |score|; ties keep the given order.

    A pair that occurs several times (a head read through its query, key and value) counts as one edge with its largest
    |score|.

    Args:
        scores: [n_edges].

    Raises:
        ConfigError: k below 1, or not one score per edge.
        NonFiniteError: a score is NaN or infinite.
    """
    scores = np.asarray(scores, dtype=np.float64)
    if scores.shape != (len(edges),):
        raise ConfigError(f"scores have shape {scores.shape}; expected one per edge, ({len(edges)},)")
    if k < 1:
        raise ConfigError(f"k is {k}; a circuit has at least one edge")
    if not np.isfinite(scores).all():
        raise NonFiniteError("an edge score is NaN or infinite; score again with more precision")
    ranked = dict.fromkeys(edges[i] for i in np.argsort(-np.abs(scores), kind="stable"))
    return set(list(ranked)[:k])


def on_path(edges: Iterable[Edge], source: str, target: str) -> set[Edge]:
    """The edges that lie on some path from `source` to `target`."""
    edges = set(edges)
    before = _reachable(edges, source)
    after = _reachable({(destination, origin) for origin, destination in edges}, target)
    return {edge for edge in edges if edge[0] in before and edge[1] in after}


def _reachable(edges: set[Edge], start: str) -> set[str]:
    """`start` and every node that some path from it leads to."""
    neighbours = defaultdict(list)
    for origin, destination in edges:
        neighbours[origin].append(destination)
    found, todo = {start}, [start]
    while todo:
        new = set(neighbours[todo.pop()]) - found
        found |= new
        todo += new
    return found


def _check_acyclic(edges: set[Edge]) -> None:
    graph = defaultdict(list)
    for origin, destination in sorted(edges):
        graph[destination].append(origin)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        raise DataError(f"the edges form a cycle: {' -> '.join(error.args[1])}; a circuit has no cycles") from None
