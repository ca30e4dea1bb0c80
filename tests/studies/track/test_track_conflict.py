"""Conflicts of a study's tasks: the rows are those of the metric, however many tasks there are, and JSON-able."""

import json

import pytest

from foresight.model.components import component_table
from foresight.scoring import ContrastProbe, make_scorer
from foresight.studies.track.conflict import _exchanged, conflicts
from support.tiny import pairs, tiny, tiny_tokenizer

K = 6


@pytest.fixture(scope="module")
def model():
    return tiny()


@pytest.fixture(scope="module")
def measured(model):
    """Probes and scores of seven tasks."""
    table = component_table(model)
    probes = {f"t{i}": ContrastProbe.from_dataset(pairs(6, i), tiny_tokenizer(), 6) for i in range(7)}
    return table, probes, {t: make_scorer("attribution").samples(model, table, p).mean(0) for t, p in probes.items()}


def part(everything, tasks):
    table, probes, scores = everything
    return table, {t: probes[t] for t in tasks}, {t: scores[t] for t in tasks}


def test_a_task_does_not_conflict_with_itself(model, measured):
    table, probes, scores = measured
    found = conflicts(model, table, {"a": probes["t0"], "b": probes["t0"]}, {"a": scores["t0"], "b": scores["t0"]}, K)
    (row,) = found.signs
    assert (row["task_a"], row["task_b"], row["value"], row["shared"], row["opposed"]) == ("a", "b", 0.0, K, [])
    assert found.boolean == []


def test_more_tasks_than_fit_together_are_compared_in_pairs(model, measured):
    every = conflicts(model, *measured, K).signs
    assert len(every) == 7 * 6 // 2
    few = conflicts(model, *part(measured, ["t0", "t1", "t2"]), K).signs
    by_pair = {(row["task_a"], row["task_b"]): row for row in every}
    for row in few:
        other = by_pair[row["task_a"], row["task_b"]]
        assert (row["value"], row["shared"], row["opposed"]) == (other["value"], other["shared"], other["opposed"])
        assert len(row["opposed"]) <= row["shared"] <= K and row["floor"] <= row["floor_high"]


def test_boolean_conflict_has_two_directions(model, measured):
    rows = conflicts(model, *part(measured, ["t0", "t1"]), K, edges=0.5).boolean
    assert [(r["dropped"], r["kept"]) for r in rows] == [("t0", "t0"), ("t0", "t1"), ("t1", "t0"), ("t1", "t1")]
    for row in rows:
        assert 0 <= row["distance"] == len(row["nodes"]) <= row["common"] and row["proven"]
    json.dumps(conflicts(model, *part(measured, ["t0", "t1"]), 1, edges=1e-9).to_json(), allow_nan=False)


def test_each_task_meets_itself_once(model, measured):
    rows = conflicts(model, *part(measured, ["t0", "t1", "t2"]), K, edges=0.5).boolean
    met = [(r["dropped"], r["kept"]) for r in rows]
    assert len(set(met)) == len(met) == 9


def test_exchanged_probes_ask_the_other_question(measured):
    probe = measured[1]["t0"]
    other = _exchanged(probe)
    assert other.batches[0].input_ids.equal(probe.batches[0].corrupted_ids)
    assert _exchanged(other).hash == probe.hash != other.hash
