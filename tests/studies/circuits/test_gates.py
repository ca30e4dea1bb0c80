"""Gates from noising and denoising edges: set algebra, pruning to paths, and what is refused."""

from collections import Counter

import numpy as np
import pytest

from foresight.common.errors import DataError
from foresight.studies.circuits.boolean import Gate, gate_circuit, on_path


def edges(text: str) -> set[tuple[str, str]]:
    """``"input>a a>logits"`` as pairs."""
    return {tuple(edge.split(">")) for edge in text.split()}


def test_gates_by_hand():
    # Into m: a and b by denoising alone (OR), c and d by noising alone (AND), e by both (ADDER).
    shared = "input>a input>b input>c input>d input>e input>m e>m m>logits "
    circuit = gate_circuit(edges(shared + "c>m d>m a>logits b>logits"), edges(shared + "a>m b>m c>logits d>logits"))
    assert circuit.groups["m"] == {Gate.OR: ["a", "b"], Gate.AND: ["c", "d"], Gate.ADDER: ["e", "input"]}
    assert circuit.groups["logits"] == {Gate.AND: ["a", "b"], Gate.OR: ["c", "d"], Gate.ADDER: ["m"]}
    assert circuit.components == ("a", "b", "c", "d", "e", "m")
    assert Counter(circuit.gates.values()) == {Gate.AND: 4, Gate.OR: 4, Gate.ADDER: 8}


def test_noising_is_and_denoising_is_or():
    noising, denoising = edges("input>a input>b a>m b>m m>logits"), edges("input>c input>d c>m d>m m>logits")
    gates = gate_circuit(noising, denoising).gates
    assert gates["a", "m"] == gates["b", "m"] == Gate.AND
    assert gates["c", "m"] == gates["d", "m"] == Gate.OR
    swapped = gate_circuit(denoising, noising).gates
    assert swapped["a", "m"] == Gate.OR and swapped["c", "m"] == Gate.AND


def test_a_lone_edge_adds():
    # a>m is seen by noising alone and b>m by denoising alone, but neither has a second edge of its kind.
    circuit = gate_circuit(edges("input>a a>m m>logits"), edges("input>b b>m m>logits"))
    assert set(circuit.gates.values()) == {Gate.ADDER}


def test_equal_circuits_only_add():
    circuit = gate_circuit(edges("input>a a>logits input>b b>logits"), edges("input>a a>logits input>b b>logits"))
    assert Counter(circuit.gates.values()) == {Gate.ADDER: 4}


def test_only_edges_on_a_path_count():
    # dead ends (a>x), orphans (y>a) and what is cut off (z>w) go, and so does a fan-in of two that one of them made.
    kept = edges("input>a a>b b>logits input>logits")
    assert on_path(kept | edges("a>x y>a z>w")) == kept
    circuit = gate_circuit(edges("input>a a>m y>m m>logits"), edges("input>m m>logits"))
    assert circuit.gates["a", "m"] == Gate.ADDER and ("y", "m") not in circuit.gates


def test_pruning_is_idempotent_and_monotone():
    rng = np.random.default_rng(0)
    for _ in range(50):
        names = ["input", *"abcdefg", "logits"]
        pairs = [(names[min(a, b)], names[max(a, b)]) for a, b in rng.integers(0, 9, (12, 2)) if a != b]
        pruned = on_path(pairs)
        assert on_path(pruned) == pruned <= set(pairs)
        assert on_path(pairs[:6]) <= pruned


def test_order_of_edges_does_not_matter():
    noising, denoising = sorted(edges("input>a input>b a>m b>m m>logits")), sorted(edges("input>c c>m m>logits"))
    first = gate_circuit(noising, denoising)
    assert list(first.gates.items()) == list(gate_circuit(noising[::-1], denoising[::-1]).gates.items())


def test_an_output_out_of_reach_is_refused():
    line = edges("input>a a>logits")
    with pytest.raises(DataError, match="denoising circuit has no path from 'input' to 'logits'"):
        gate_circuit(line, edges("input>a"))
    with pytest.raises(DataError, match="noising circuit"):
        gate_circuit(set(), line)
