"""Boolean conflict of tasks: components that one task must lose and another must keep, whatever alternatives they have.

The question is CLUE's (Chen et al., arXiv 2509.20977). One task is *dropped* (its output is off), others are *kept*
(their outputs are on). The conflict is the smallest Hamming distance, over the components that both sides share,
between an assignment that satisfies the dropped circuit and one that satisfies the kept circuits. (If both outputs were
on, the distance between any two tasks would be 0, because everything on satisfies any circuit of AND and OR gates.) The
meaning of the gates also follows CLUE's program:

- a component that is on needs all its AND and ADDER inputs on, and one of its OR inputs on;
- a component that is off needs all its OR and ADDER inputs off, and one of its AND inputs off.

Three choices are this project's own. First, the rules apply backwards from the output only; a component that they do
not reach has no value and causes no conflict. CLUE's program also applies them forwards, which leaves a circuit that
starts at a single input only two assignments, all on or all off, so that every common component is in conflict. Second,
the input (the prompt) is always on: it satisfies an OR gate, and a component that is off ignores it. Third, input and
output are not counted.

The minimum is found by RC2, a core-guided MaxSAT solver (Ignatiev, Morgado and Marques-Silva, JSAT 2019), from the
optional package python-sat.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from threading import Timer

from ...common.errors import ConfigError
from .gates import Gate, GateCircuit

_SOLVER = "g4"  # Glucose 4: RC2 can interrupt it, and it accepts a preferred value for each variable
_Meeting = dict[str, list[tuple[int, int]]]
"""Common component -> its variables (must be off, must be on), one pair per kept circuit."""


def require_solver() -> None:
    """Raise ConfigError if python-sat is not installed."""
    if find_spec("pysat") is None:
        raise ConfigError(
            "Boolean conflict needs python-sat, which is not installed; run pip install 'foresight-sft[boolean]', or "
            "turn it off (track: `conflict: false` or `edges_every: 0`)"
        )


@dataclass(frozen=True)
class Conflict:
    """The components that must be off for one task to fail and on for others to work.

    Attributes:
        n_common: number of components that the dropped circuit shares with any kept one.
        nodes: the conflicting components, sorted by name. The set is a smallest one if `proven`; where several are
            smallest, the choice is deterministic.
        bound: proven lower bound of the distance.
        forced: components that conflict under every assignment, sorted by name; a subset of any valid `nodes`.
    """

    n_common: int
    nodes: tuple[str, ...]
    bound: int
    forced: tuple[str, ...]

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
        """Whether no smaller distance is possible."""
        return self.bound == self.distance


def conflict(dropped: GateCircuit, kept: Sequence[GateCircuit], time_limit: float = 60) -> Conflict:
    """Find the fewest components that must be off for `dropped` to fail and on for all of `kept` to work.

    Args:
        dropped: circuit of the task whose output is off.
        kept: circuits of the tasks whose outputs are on; each has its own assignment.
        time_limit: seconds for the search. When it runs out, the result is a valid set of conflicting components with
            the bound that was proven so far.

    Raises:
        ConfigError: `kept` is empty, the circuits name their inputs or outputs differently, or python-sat is missing.
    """
    if not kept:
        raise ConfigError("no task is kept; a conflict needs one task to drop and at least one to keep")
    if len(ends := {(circuit.source, circuit.target) for circuit in (dropped, *kept)}) > 1:
        raise ConfigError(f"circuits have different inputs and outputs: {sorted(ends)}; expected the same names")
    require_solver()
    from pysat.examples.rc2 import RC2
    from pysat.formula import WCNF, IDPool

    variable = IDPool().id
    rules = list(_rules(dropped, on=False, side=0, variable=variable))
    for side, circuit in enumerate(kept, start=1):
        rules += _rules(circuit, on=True, side=side, variable=variable)
    meeting: _Meeting = defaultdict(list)
    for side, circuit in enumerate(kept, start=1):
        for node in sorted(set(dropped.components).intersection(circuit.components)):
            meeting[node].append((variable((0, node)), variable((side, node))))
    meeting = dict(sorted(meeting.items()))

    # Components that conflict under every assignment need no search, and the first assignment found is the answer if
    # the time runs out before a better one is known. What remains is MaxSAT: each conflict costs 1.
    forced, model = _first_look(rules, meeting)
    problem = WCNF()
    problem.extend(rules)
    for node in sorted(set(meeting) - forced):
        problem.extend([[-off, -on, variable(node)] for off, on in meeting[node]])
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
    nodes = [node for node, pairs in meeting.items() if any(off in true and on in true for off, on in pairs)]
    return Conflict(len(meeting), tuple(nodes), bound, tuple(sorted(forced)))


def _rules(circuit: GateCircuit, on: bool, side: int, variable: Callable[[Hashable], int]) -> Iterator[list[int]]:
    """Clauses of a circuit whose output is on (or off); a variable is true if its node must be on (or off)."""
    yield [variable((side, circuit.target))]
    choice = Gate.OR if on else Gate.AND
    for node, groups in circuit.groups.items():
        head = -variable((side, node))
        for gate, sources in groups.items():
            inputs = [variable((side, source)) for source in sources if source != circuit.source]
            if gate is not choice:
                yield from ([head, number] for number in inputs)
            elif inputs and not (on and circuit.source in sources):
                yield [head, *inputs]


def _first_look(rules: list[list[int]], meeting: _Meeting) -> tuple[set[str], list[int]]:
    """The components that conflict under every assignment, and one assignment that uses few components."""
    from pysat.solvers import Solver

    with Solver(_SOLVER, bootstrap_with=rules) as solver:
        # If assuming "need not be off (on)" contradicts the rules by propagation alone, the component must be off (on).
        forced = {
            node
            for node, pairs in meeting.items()
            if any(not solver.propagate([-off])[0] and not solver.propagate([-on])[0] for off, on in pairs)
        }
        solver.set_phases([-number for number in range(1, solver.nof_vars() + 1)])
        solver.solve()
        return forced, solver.get_model()
