"""Conflict of circuits: by hand, against enumeration on small ones and against integer programming on a large one."""

import random
from itertools import product

import numpy as np
import pytest
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_array

from foresight.common.errors import ConfigError
from foresight.studies.circuits import boolean
from foresight.studies.circuits.boolean import SOURCE, TARGET, Gate, GateCircuit, conflict, gate_circuit, on_path

LETTERS = {"&": Gate.AND, "|": Gate.OR, "+": Gate.ADDER}


def circuit(text: str) -> GateCircuit:
    """``"a + input, logits | a b"`` as a circuit: a node, its gate and the inputs; a line per gate."""
    gates = {}
    for line in text.split(","):
        node, letter, *sources = line.split()
        gates.update({(source, node): LETTERS[letter] for source in sources})
    return GateCircuit(dict(sorted(gates.items())))


def leaves(names: str) -> str:
    return "".join(f"{name} + input, " for name in names.split())


BOTH_ADD = circuit(leaves("a b") + "logits + a b")
EITHER = circuit(leaves("a b") + "logits | a b")
BOTH_NEEDED = circuit(leaves("a b") + "logits & a b")
ONLY_A = circuit(leaves("a") + "logits + a")
MIXED = circuit(leaves("a b c d e") + "logits | a b, logits & c d, logits + e")


@pytest.mark.parametrize(
    ("dropped", "kept", "nodes"),
    [
        # Off: a and b. On: a and b.
        (BOTH_ADD, BOTH_ADD, "a b"),
        # Off: both, or one would be enough. On: one is enough, and it is off.
        (BOTH_ADD, EITHER, 1),
        (EITHER, EITHER, 1),
        # Off: one is enough. On: both.
        (BOTH_NEEDED, BOTH_ADD, 1),
        # Off: drop b, which the other does not use.
        (BOTH_NEEDED, ONLY_A, ""),
        # The other way round: a has to be off, and on.
        (ONLY_A, BOTH_NEEDED, "a"),
        # Off: a. On: b does it.
        (ONLY_A, EITHER, ""),
        (EITHER, ONLY_A, "a"),
        # Off goes down to m, which is shared; the heads on top of it are not.
        (circuit("m + input, a + m, logits + a"), circuit("m + input, b + m, logits + b"), "m"),
        # The prompt is enough for the task that is kept, so that nothing else has to be on.
        (ONLY_A, circuit(leaves("a") + "logits | a input"), ""),
        # The prompt cannot be switched off in place of a.
        (circuit(leaves("a") + "logits & a input"), ONLY_A, "a"),
        # Gates of several kinds at one node: on takes c and d, and a or b; off takes a and b and e, and c or d.
        (MIXED, circuit(leaves("c e") + "logits + c e"), "e"),
        (circuit(leaves("c e") + "logits + c e"), MIXED, "c e"),
        # Nothing in common.
        (ONLY_A, circuit(leaves("b") + "logits + b"), ""),
        # A shared node that pays twice: off takes m or (a and b); on takes both of m and a.
        (circuit(leaves("a b m") + "x | a b, logits & x m"), circuit(leaves("a b m") + "logits + a b m"), "m"),
    ],
)  # fmt: skip
def test_by_hand(dropped, kept, nodes):
    found = conflict(dropped, kept)
    assert found.proven and found.bound == found.distance
    assert found.distance == nodes if isinstance(nodes, int) else found.nodes == tuple(nodes.split())


def random_circuit(rng: random.Random, n_nodes: int, fan_in: int = 3, add: float = 0.4) -> GateCircuit:
    """Nodes in a fixed order; in-edges from any earlier node, each with a gate of its own."""
    names = ["input", *(f"n{i:04d}" for i in range(n_nodes)), "logits"]
    while True:
        gates = {}
        for i, node in enumerate(names[1:], start=1):
            for source in rng.sample(names[:i], min(i, rng.randint(1, fan_in))):
                gates[source, node] = Gate.ADDER if rng.random() < add else rng.choice([Gate.AND, Gate.OR])
        kept = on_path(gates)
        if kept:
            return GateCircuit({edge: gates[edge] for edge in sorted(kept)})


def holds(circuit: GateCircuit, chosen: set[str], on: bool) -> bool:
    """Whether `chosen` is closed under what the gates ask of the output and of everything chosen."""
    some, every = (Gate.OR, (Gate.AND, Gate.ADDER)) if on else (Gate.AND, (Gate.OR, Gate.ADDER))
    for node in chosen | {TARGET}:
        groups = circuit.groups.get(node, {})
        if not all(set(groups.get(gate, ())) - {SOURCE} <= chosen for gate in every):
            return False
        choice = set(groups.get(some, ()))
        components = choice - {SOURCE}
        if components and not (on and SOURCE in choice) and not components & chosen:
            return False
    return True


def assignments(circuit: GateCircuit, on: bool) -> list[set[str]]:
    names = circuit.components
    every = ({n for n, bit in zip(names, bits, strict=True) if bit} for bits in product((0, 1), repeat=len(names)))
    return [chosen for chosen in every if holds(circuit, chosen, on)]


@pytest.mark.parametrize("n_nodes", [2, 3, 5, 7, 9])
def test_equals_enumeration(n_nodes):
    rng = random.Random(n_nodes)
    distances = set()
    for _ in range(40 if n_nodes < 7 else 8):
        dropped, kept = (random_circuit(rng, n_nodes, add=rng.choice([0.0, 0.3])) for _ in range(2))
        meetings = [off & on for off in assignments(dropped, on=False) for on in assignments(kept, on=True)]
        found = conflict(dropped, kept)
        assert found.distance == min(map(len, meetings)) and found.proven
        assert set(found.nodes) in meetings
        assert found.n_common == len(set(dropped.components) & set(kept.components))
        distances.add(found.distance)
    assert len(distances) > 1  # the cases are not all alike


def complete_graph(n: int) -> tuple[GateCircuit, GateCircuit]:
    """The dropped task needs every vertex off, the kept one an end of every edge on: a vertex cover of K_n, n - 1."""
    vertices = [f"v{i:02d}" for i in range(n)]
    dropped = leaves(" ".join(vertices)) + "logits + " + " ".join(vertices)
    ends = {f"e{a}{b}": f"{a} {b}" for i, a in enumerate(vertices) for b in vertices[:i]}
    lines = "".join(f"{edge} | {pair}, " for edge, pair in ends.items())
    return circuit(dropped), circuit(leaves(" ".join(vertices)) + lines + "logits + " + " ".join(ends))


@pytest.mark.parametrize("n", [3, 5, 9])
def test_vertex_cover_of_a_complete_graph(n):
    dropped, kept = complete_graph(n)
    found = conflict(dropped, kept)
    assert (found.distance, found.n_common, found.proven) == (n - 1, n, True)


def rows(circuit: GateCircuit, on: bool) -> list[tuple[str | None, list[str]]]:
    """The gates as (node, of which one is needed if the node is); the output is always needed, so its node is None."""
    found: list[tuple[str | None, list[str]]] = []
    for node, groups in circuit.groups.items():
        for gate, sources in groups.items():
            needed = [source for source in sources if source != "input"]
            if gate == (Gate.OR if on else Gate.AND):
                found += [(node, needed)] if needed and not (on and "input" in sources) else []
            else:
                found += [(node, [source]) for source in needed]
    return [(None if node == TARGET else node, needed) for node, needed in found]


def least_by_integer_programming(dropped: GateCircuit, kept: GateCircuit) -> float:
    """Minimise sum z with z >= off + on - 1 for common nodes; a needed input adds up to at least what needs it."""
    column: dict[tuple[str, str], int] = {}
    entries, lower = [], []
    for side, circuit in (("off", dropped), ("on", kept)):
        for node, needed in rows(circuit, on=side == "on"):
            terms = [(column.setdefault((side, source), len(column)), 1) for source in needed]
            if node is not None:
                terms.append((column.setdefault((side, node), len(column)), -1))
            entries += [(len(lower), *term) for term in terms]
            lower.append(1 if node is None else 0)
    n_nodes = len(column)
    for node in set(dropped.components) & set(kept.components):
        if ("off", node) in column and ("on", node) in column:
            terms = [(column["off", node], -1), (column["on", node], -1), (len(column), 1)]
            column["both", node] = len(column)
            entries += [(len(lower), *term) for term in terms]
            lower.append(-1)
    row, col, value = zip(*entries, strict=True)
    matrix = csr_array((value, (row, col)), shape=(len(lower), len(column)))
    cost = np.arange(len(column)) >= n_nodes
    answer = milp(
        cost, constraints=LinearConstraint(matrix, lower), bounds=Bounds(0, 1), integrality=np.ones(len(cost))
    )
    assert answer.status == 0
    return answer.fun


def wide_circuit(rng: random.Random) -> GateCircuit:
    names = ["input", *(f"n{i:04d}" for i in range(2000)), "logits"]
    gates = {}
    for i, node in enumerate(names[1:], start=1):
        for source in rng.sample(names[max(0, i - 900) : i], min(i, 10)):
            gates[source, node] = rng.choice([Gate.AND, Gate.OR])
    for node in rng.sample(names[1:-1], 200):
        gates[node, "logits"] = rng.choice([Gate.AND, Gate.OR])
    return GateCircuit({edge: gates[edge] for edge in sorted(on_path(gates))})


def test_a_large_instance_equals_integer_programming():
    """2,000 nodes and 20,000 edges a task."""
    rng = random.Random(0)
    dropped, kept = wide_circuit(rng), wide_circuit(rng)
    assert min(len(dropped.gates), len(kept.gates)) > 17_000
    found = conflict(dropped, kept)
    assert found.proven and 0 < found.distance < found.n_common
    assert found.distance == round(least_by_integer_programming(dropped, kept))
    assert found == conflict(dropped, kept)  # the same set every time


def hard_pair(n: int) -> tuple[GateCircuit, GateCircuit]:
    """A vertex cover of a random graph of degree 9, far too large to be proven in a second."""
    rng = random.Random(0)
    vertices = [f"v{i:03d}" for i in range(n)]
    ends = {f"e{k:04d}": " ".join(rng.sample(vertices, 2)) for k in range(9 * n // 2)}
    lines = "".join(f"{edge} | {pair}, " for edge, pair in ends.items())
    prefix = leaves(" ".join(vertices))
    return circuit(prefix + "logits + " + " ".join(vertices)), circuit(prefix + lines + "logits + " + " ".join(ends))


def test_a_time_limit_gives_a_bound_and_says_so():
    dropped, kept = hard_pair(400)
    found = conflict(dropped, kept, time_limit=0.5)
    assert not found.proven and found.bound < found.distance
    # Still an answer: with these vertices on, every edge has an end that is on.
    cover = set(found.nodes)
    assert all(cover & set(groups[Gate.OR]) for groups in kept.groups.values() if Gate.OR in groups)


def test_an_interrupted_bound_is_a_bound():
    dropped, kept = hard_pair(90)
    least = conflict(dropped, kept)
    assert least.proven
    for time_limit in (0, 0.001, 0.005, 0.01, 0.02, 0.05):
        found = conflict(dropped, kept, time_limit)
        assert found.bound <= least.distance <= found.distance


def test_every_ordered_pair_of_tasks_by_hand():
    """Rows are dropped, columns are kept."""
    tasks = [BOTH_ADD, EITHER, BOTH_NEEDED, ONLY_A]
    found = [[conflict(dropped, kept) for kept in tasks] for dropped in tasks]
    distance = [[2, 1, 2, 1], [2, 1, 2, 1], [1, 0, 1, 0], [1, 0, 1, 1]]
    assert [[one.distance for one in row] for row in found] == distance
    common = np.array([[2, 2, 2, 1], [2, 2, 2, 1], [2, 2, 2, 1], [1, 1, 1, 1]])
    np.testing.assert_array_equal([[one.normalised for one in row] for row in found], distance / common)
    assert all(one.proven for one in sum(found, []))


def test_tasks_that_share_nothing_have_no_normalised_distance():
    found = conflict(ONLY_A, circuit(leaves("b") + "logits + b"))
    assert found.distance == 0 and np.isnan(found.normalised)


def test_a_task_conflicts_with_itself_wherever_it_is_not_read_off_the_prompt():
    rng = random.Random(3)
    for _ in range(30):
        task = random_circuit(rng, 6)
        if ("input", "logits") not in task.gates:
            assert conflict(task, task).distance >= 1


def test_from_edges_to_conflict():
    line = {("input", "a"), ("input", "b"), ("a", "logits"), ("b", "logits")}
    needs_both = gate_circuit(line, {("input", "c"), ("c", "logits")})
    one_is_enough = gate_circuit({("input", "c"), ("c", "logits")}, line)
    # Drop the first: a or b, and c. Keep the second: c is added, so on; c cannot be both.
    assert conflict(needs_both, one_is_enough).nodes == ("c",)
    # Drop the second: a, b and c. Keep the first: a, b and c.
    assert conflict(one_is_enough, needs_both).nodes == ("a", "b", "c")


def test_without_its_solver_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setattr(boolean, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"run pip install 'foresight-sft\[boolean\]'"):
        conflict(ONLY_A, ONLY_A)
