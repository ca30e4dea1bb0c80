"""Boolean conflict of tasks: components that one task must lose and another must keep, whatever alternatives they have.

*Gates* (Chen et al., arXiv 2505.10039, used in CLUE, arXiv 2509.20977). Noising corrupts one edge of the clean run and
finds what is necessary; denoising restores one edge of the corrupted run and finds what is sufficient. Of two inputs
that are sufficient each (OR), only denoising detects them; of two that are both necessary (AND), only noising does;
inputs whose effects add up (ADDER) are detected by both.

*Conflict* follows CLUE. One task is dropped (its output is off), another is kept (its output is on). The conflict is
the smallest Hamming distance, over the components that both circuits share, between an assignment that satisfies the
dropped circuit and one that satisfies the kept one. (If both outputs were on, it would always be 0, because everything
on satisfies any circuit of AND and OR gates.) The meaning of the gates also follows CLUE's program:

- a component that is on needs all its AND and ADDER inputs on, and one of its OR inputs on;
- a component that is off needs all its OR and ADDER inputs off, and one of its AND inputs off.

Three choices are this project's own. The rules apply backwards from the output only; a component that they do not reach
has no value and causes no conflict. (CLUE's program also applies them forwards, which leaves a circuit that starts at a
single input only two assignments, all on or all off.) The input (the prompt) is always on: it satisfies an OR gate, and
a component that is off ignores it. Input and output are not counted.

The minimum is found by RC2, a core-guided MaxSAT solver (Ignatiev, Morgado and Marques-Silva, JSAT 2019), from the
optional package python-sat.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from importlib.util import find_spec
from threading import Timer

from ...common.errors import ConfigError, DataError

Edge = tuple[str, str]
"""(source node, destination node)."""

Gate = StrEnum("Gate", ["AND", "OR", "ADDER"])
"""How a node combines the in-edges of one group."""

SOURCE, TARGET = "input", "logits"
_SOLVER = "g4"  # Glucose 4: RC2 can interrupt it, and it accepts a preferred value for each variable


@dataclass(frozen=True)
class GateCircuit:
    """A task's circuit: the gate of every edge, ordered by the edges' names. All lie on a path from input to output."""

    gates: Mapping[Edge, Gate]

    @cached_property
    def components(self) -> tuple[str, ...]:
        """The nodes between input and output, sorted by name: what two circuits can share."""
        return tuple(sorted({node for edge in self.gates for node in edge} - {SOURCE, TARGET}))

    @cached_property
    def groups(self) -> dict[str, dict[Gate, list[str]]]:
        """For every node with in-edges: the source nodes of each of its gates."""
        groups: dict[str, dict[Gate, list[str]]] = defaultdict(lambda: defaultdict(list))
        for (source, destination), gate in self.gates.items():
            groups[destination][gate].append(source)
        return groups


def gate_circuit(noising: Iterable[Edge], denoising: Iterable[Edge]) -> GateCircuit:
    """Combine the noising and the denoising circuit of a task; their edges form no cycle.

    Both are first reduced to their edges on a path from input to output. Of the edges that only denoising has, two or
    more into the same node are OR; of those that only noising has, two or more into the same node are AND; all others
    are ADDER. (CLUE's program also counts a lone edge of the other circuit towards the two; we keep to the plain rule.)

    Raises:
        DataError: one of the two circuits has no path from input to output.
    """
    needed, enough = on_path(noising), on_path(denoising)
    for name, found in (("noising", needed), ("denoising", enough)):
        if not found:
            raise DataError(f"the {name} circuit has no path from {SOURCE!r} to {TARGET!r}; take more edges")
    gates = dict.fromkeys(needed | enough, Gate.ADDER)
    for gate, edges in ((Gate.OR, enough - needed), (Gate.AND, needed - enough)):
        fan_in = Counter(destination for _, destination in edges)
        gates.update({edge: gate for edge in edges if fan_in[edge[1]] >= 2})
    return GateCircuit({edge: gates[edge] for edge in sorted(gates)})


def on_path(edges: Iterable[Edge]) -> set[Edge]:
    """The edges that lie on some path from the input to the output."""
    edges = set(edges)
    before = _reachable(edges, SOURCE)
    after = _reachable({(destination, origin) for origin, destination in edges}, TARGET)
    return {edge for edge in edges if edge[0] in before and edge[1] in after}


def _reachable(edges: set[Edge], start: str) -> set[str]:
    """`start` and every node that some path from it leads to."""
    found = {start}
    while new := {destination for origin, destination in edges if origin in found} - found:
        found |= new
    return found


def require_solver() -> None:
    """Raise ConfigError if python-sat is not installed."""
    if find_spec("pysat") is None:
        raise ConfigError(
            "Boolean conflict needs python-sat, which is not installed; run pip install 'foresight-sft[boolean]', or "
            "turn it off (track: `conflict: false` or `edges_every: 0`)"
        )


@dataclass(frozen=True)
class Conflict:
    """The components that must be off for one task to fail and on for another to work.

    Attributes:
        n_common: number of components that the two circuits share.
        nodes: the conflicting components, sorted by name. The set is a smallest one if `proven`.
        bound: proven lower bound of the distance.
    """

    n_common: int
    nodes: tuple[str, ...]
    bound: int

    @property
    def distance(self) -> int:
        """Hamming distance: the number of conflicting components."""
        return len(self.nodes)

    @property
    def normalised(self) -> float:
        """Distance divided by the number of common components, in [0, 1]; NaN if there are none."""
        return self.distance / self.n_common if self.n_common else float("nan")

    @property
    def proven(self) -> bool:
        return self.bound == self.distance


def conflict(dropped: GateCircuit, kept: GateCircuit, time_limit: float = 60) -> Conflict:
    """Find the fewest components that must be off for the task `dropped` to fail and on for the task `kept` to work.

    When the time limit (seconds) runs out, the result is a valid set of conflicting components with the bound that was
    proven so far. Raises ConfigError if python-sat is missing.
    """
    require_solver()
    from pysat.examples.rc2 import RC2
    from pysat.formula import WCNF, IDPool

    variable = IDPool().id
    rules = [*_rules(dropped, False, variable), *_rules(kept, True, variable)]
    common = sorted(set(dropped.components).intersection(kept.components))
    meeting = {node: (variable((False, node)), variable((True, node))) for node in common}

    # Components that conflict under every assignment need no search, and the first assignment found is the answer if
    # the time runs out before a better one is known. What remains is MaxSAT: each conflict costs 1.
    forced, model = _first_look(rules, meeting)
    problem = WCNF()
    problem.extend(rules)
    for node in sorted(set(meeting) - forced):
        off, on = meeting[node]
        problem.append([-off, -on, variable(node)])
        problem.append([-variable(node)], weight=1)
    # Core exhaustion stays off: an interrupt during it would raise the bound without a proof.
    with RC2(problem, solver=_SOLVER, adapt=True, minz=True) as search:
        timer = Timer(time_limit, search.interrupt)
        timer.start()
        try:
            model = search.compute(expect_interrupt=True) or model
        finally:
            timer.cancel()
            timer.join()
        bound = len(forced) + search.cost
    true = set(model)
    return Conflict(len(meeting), tuple(node for node, pair in meeting.items() if true.issuperset(pair)), bound)


def _rules(circuit: GateCircuit, on: bool, variable: Callable[[Hashable], int]) -> Iterator[list[int]]:
    """Clauses of a circuit whose output is on (or off); a variable is true if its node must be on (or off)."""
    yield [variable((on, TARGET))]
    choice = Gate.OR if on else Gate.AND
    for node, groups in circuit.groups.items():
        head = -variable((on, node))
        for gate, sources in groups.items():
            inputs = [variable((on, source)) for source in sources if source != SOURCE]
            if gate is not choice:
                yield from ([head, number] for number in inputs)
            elif inputs and not (on and SOURCE in sources):
                yield [head, *inputs]


def _first_look(rules: list[list[int]], meeting: dict[str, tuple[int, int]]) -> tuple[set[str], list[int]]:
    """The components that conflict under every assignment, and one assignment that uses few components; `meeting` has
    the variables (must be off, must be on) of every common component.
    """
    from pysat.solvers import Solver

    with Solver(_SOLVER, bootstrap_with=rules) as solver:
        # If assuming "need not be off (on)" contradicts the rules by propagation alone, the component must be off (on).
        forced = {node for node, pair in meeting.items() if not any(solver.propagate([-number])[0] for number in pair)}
        solver.set_phases([-number for number in range(1, solver.nof_vars() + 1)])
        solver.solve()
        return forced, solver.get_model()
