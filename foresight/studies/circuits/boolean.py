"""Boolean conflict of tasks: components that one task must lose and another must keep, whatever alternatives they have.

The question is CLUE's (Chen et al., arXiv 2509.20977): one task is *dropped* (its output off), others are *kept* (their
outputs on), and the conflict is the smallest Hamming distance between an assignment that satisfies the dropped circuit
and one that satisfies the kept ones, over the components of both sides. (With both outputs on, the distance of any two
tasks would be 0: everything on satisfies any circuit of AND and OR gates.) CLUE's program also says what gates ask:

- a component that is on needs all its AND and ADDER inputs on and one of its OR inputs;
- a component that is off needs all its OR and ADDER inputs off and one of its AND inputs.

Three choices are ours. The rules are read from the output backwards only; what they do not reach has no value, and no
conflict. Read both ways, as in CLUE's program, they leave a circuit that starts at one input with two assignments, all
on or all off, and every common component in conflict. The input (the prompt) is on for every task: it satisfies an OR,
and off asks only for the other inputs of a component. Input and output are not counted.

The minimum is found by RC2, a core-guided MaxSAT solver (Ignatiev, Morgado and Marques-Silva, JSAT 2019; python-sat).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from threading import Timer

import numpy as np
from pysat.examples.rc2 import RC2
from pysat.formula import WCNF, IDPool
from pysat.solvers import Solver

from ...common.errors import ConfigError
from .gates import Gate, GateCircuit

_SOLVER = "g4"  # Glucose 4: RC2 can interrupt it, and it takes a preferred value for a variable
_Meeting = dict[str, list[tuple[int, int]]]  # common component: its (has to be off, has to be on), one per kept circuit


@dataclass(frozen=True)
class Conflict:
    """Components that must be off for one task to fail and on for others to work.

    Attributes:
        n_common: number of components that the dropped circuit shares with a kept one.
        nodes: the conflict nodes, sorted: a smallest set if `proven`. There may be others; it is always the same one.
        bound: proven lower bound of the distance.
        forced: those that no alternative avoids, so that every set of conflict nodes has them; sorted.
    """

    n_common: int
    nodes: tuple[str, ...]
    bound: int
    forced: tuple[str, ...]

    @property
    def distance(self) -> int:
        """Hamming distance: the number of conflict nodes."""
        return len(self.nodes)

    @property
    def normalised(self) -> float:
        """Distance over the number of common components, in [0, 1]; NaN if there are none."""
        return self.distance / self.n_common if self.n_common else float("nan")

    @property
    def proven(self) -> bool:
        """Whether no smaller distance is possible."""
        return self.bound == self.distance


@dataclass(frozen=True)
class TaskConflicts:
    """Conflicts among two to six tasks. A conflict has a direction: [i, j] is task i dropped and task j kept.

    Attributes:
        tasks: names, in the order of the matrices.
        pairs: a row for each dropped task, a column for each kept one. The diagonal is a yardstick and not 0 as a
            rule: no task can be dropped and kept.
        against_rest: each task dropped while all others are kept, in the order of `tasks`.
    """

    tasks: tuple[str, ...]
    pairs: tuple[tuple[Conflict, ...], ...]
    against_rest: tuple[Conflict, ...]

    @property
    def distance(self) -> np.ndarray:
        """int64 [n, n]; see `Conflict.proven` of the pairs."""
        return np.array([[pair.distance for pair in row] for row in self.pairs], np.int64)

    @property
    def normalised(self) -> np.ndarray:
        """float64 [n, n] in [0, 1], NaN for tasks without a common component."""
        return np.array([[pair.normalised for pair in row] for row in self.pairs])

    @property
    def mutual(self) -> np.ndarray:
        """float64 [n, n], symmetric: the mean of both directions of `normalised`."""
        return (self.normalised + self.normalised.T) / 2

    @property
    def node_counts(self) -> dict[str, int]:
        """In how many ordered pairs of different tasks a component is a conflict node; most first, then by name."""
        others = (pair for i, row in enumerate(self.pairs) for j, pair in enumerate(row) if i != j)
        return dict(Counter(sorted(node for pair in others for node in pair.nodes)).most_common())


def task_conflicts(circuits: Mapping[str, GateCircuit], time_limit: float = 60) -> TaskConflicts:
    """Conflict of every task with every other, and with all others together.

    Args:
        circuits: two to six tasks by name, all circuits of the same model.
        time_limit: seconds for each of the n² + n minima.

    Raises:
        ConfigError: another number of tasks, or see `conflict`.
    """
    if not 2 <= len(circuits) <= 6:
        raise ConfigError(f"got {len(circuits)} tasks; a conflict is between two to six")
    every = list(circuits.values())
    return TaskConflicts(
        tuple(circuits),
        tuple(tuple(conflict(dropped, [kept], time_limit) for kept in every) for dropped in every),
        tuple(conflict(dropped, every[:i] + every[i + 1 :], time_limit) for i, dropped in enumerate(every)),
    )


def conflict(dropped: GateCircuit, kept: Sequence[GateCircuit], time_limit: float = 60) -> Conflict:
    """The fewest components that must be off for `dropped` to fail and on for all of `kept` to work.

    Args:
        dropped: circuit of the task whose output is off.
        kept: circuits of the tasks whose outputs are on; each has an assignment of its own.
        time_limit: seconds for the search. After that: some set of conflict nodes, and the bound proven so far.

    Raises:
        ConfigError: nothing is kept, or inputs or outputs have different names.
    """
    if not kept:
        raise ConfigError("no task is kept; a conflict needs one to drop and at least one to keep")
    if len(ends := {(circuit.source, circuit.target) for circuit in (dropped, *kept)}) > 1:
        raise ConfigError(f"circuits have different inputs and outputs: {sorted(ends)}; expected the same names")

    variable = IDPool().id
    rules = list(_rules(dropped, on=False, side=0, variable=variable))
    for side, circuit in enumerate(kept, start=1):
        rules += _rules(circuit, on=True, side=side, variable=variable)
    meeting: _Meeting = defaultdict(list)
    for side, circuit in enumerate(kept, start=1):
        for node in sorted(set(dropped.components).intersection(circuit.components)):
            meeting[node].append((variable((0, node)), variable((side, node))))
    meeting = dict(sorted(meeting.items()))

    forced, model = _first_look(rules, meeting)
    problem = WCNF()
    problem.extend(rules)
    for node in sorted(set(meeting) - forced):
        problem.extend([[-off, -on, variable(node)] for off, on in meeting[node]])
        problem.append([-variable(node)], weight=1)
    # Core exhaustion stays off: an interrupt in the midst of it would raise the bound without a proof.
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
    """Clauses of a circuit whose output is on (or off); a variable is true if its node has to be on (or off)."""
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
    """The components in conflict in every assignment, and one assignment, with few components in it."""
    with Solver(_SOLVER, bootstrap_with=rules) as solver:
        # Assuming that a component has not to be on (off), propagation alone evaluates the circuit without it.
        forced = {
            node
            for node, pairs in meeting.items()
            if any(not solver.propagate([-off])[0] and not solver.propagate([-on])[0] for off, on in pairs)
        }
        solver.set_phases([-number for number in range(1, solver.nof_vars() + 1)])
        solver.solve()
        return forced, solver.get_model()
