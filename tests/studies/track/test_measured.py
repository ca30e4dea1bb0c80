"""What is measured on a model: rows of conflicts and of faithfulness curves, JSON-able, for any number of tasks."""

import json
import logging

import numpy as np
import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from foresight.model.components import component_table
from foresight.model.shipped import model_path
from foresight.scoring import make_scorer
from foresight.scoring.probes import ContrastProbe
from foresight.studies.track.measured import conflict_rows, curve_rows, swapped
from foresight.tasks import task
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
    found = conflict_rows(
        model, table, {"a": probes["t0"], "b": probes["t0"]}, {"a": scores["t0"], "b": scores["t0"]}, K
    )
    (row,) = found["signs"]
    assert (row["task_a"], row["task_b"], row["value"], row["shared"], row["opposed"]) == ("a", "b", 0.0, K, [])
    assert found["boolean"] == []


def test_more_tasks_than_fit_together_are_compared_in_pairs(model, measured):
    every = conflict_rows(model, *measured, K)["signs"]
    assert len(every) == 7 * 6 // 2
    few = conflict_rows(model, *part(measured, ["t0", "t1", "t2"]), K)["signs"]
    by_pair = {(row["task_a"], row["task_b"]): row for row in every}
    for row in few:
        other = by_pair[row["task_a"], row["task_b"]]
        assert (row["value"], row["shared"], row["opposed"]) == (other["value"], other["shared"], other["opposed"])
        assert len(row["opposed"]) <= row["shared"] <= K and row["floor"] <= row["floor_high"]


def test_boolean_conflict_has_two_directions(model, measured):
    rows = conflict_rows(model, *part(measured, ["t0", "t1"]), K, edges=0.5)["boolean"]
    assert [(r["dropped"], r["kept"]) for r in rows] == [("t0", "t0"), ("t0", "t1"), ("t1", "t0"), ("t1", "t1")]
    for row in rows:
        assert 0 <= row["distance"] == len(row["nodes"]) <= row["common"] and row["proven"]
    json.dumps(conflict_rows(model, *part(measured, ["t0", "t1"]), 1, edges=1e-9), allow_nan=False)


def test_each_task_meets_itself_once(model, measured):
    rows = conflict_rows(model, *part(measured, ["t0", "t1", "t2"]), K, edges=0.5)["boolean"]
    met = [(r["dropped"], r["kept"]) for r in rows]
    assert len(set(met)) == len(met) == 9


def testswapped_probes_ask_the_other_question(measured):
    probe = measured[1]["t0"]
    other = swapped(probe)
    assert other.batches[0].input_ids.equal(probe.batches[0].corrupted_ids)
    assert swapped(other).hash == probe.hash != other.hash


# -- faithfulness curves ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shipped():
    """The shipped model, with probes and scores of two tasks."""
    model = AutoModelForCausalLM.from_pretrained(model_path())
    tokenizer, table = AutoTokenizer.from_pretrained(model_path()), component_table(model)
    probes = {}
    for name in ("docstring", "induction"):
        pairs = task(name).contrast(tokenizer, "test", 16)
        probes[name] = ContrastProbe.from_dataset(pairs, tokenizer, 16, 16)
    scores = {n: np.abs(make_scorer("attribution").score(model, table, p).values) for n, p in probes.items()}
    return model, table, probes, scores


def test_curve_and_areas(shipped):
    model, table, probes, scores = shipped
    rows = [row for row in curve_rows(*shipped) if row["circuit_of"] == "docstring"]
    curve = [row for row in rows if row["measure"] == "faithfulness"]
    sizes, values = [row["size"] for row in curve], [row["value"] for row in curve]
    assert sizes == sorted(sizes) and sizes[-1] == len(table)
    assert values[0] == pytest.approx(0, abs=1e-6) and values[-1] == pytest.approx(1, abs=1e-6)
    area = {row["measure"]: row["value"] for row in rows if row["size"] is None}
    fractions = [row["fraction"] for row in curve]
    assert area["cpr"] == pytest.approx(np.trapezoid(values, fractions))
    assert area["cmd"] == pytest.approx(np.trapezoid(np.abs(1 - np.array(values)), fractions))
    assert area["gap"] > 0 and all(row["low"] <= row["value"] <= row["high"] for row in rows)
    # The wrong order of components makes a worse circuit of every size.
    upside_down = {"docstring": scores["docstring"].max() - scores["docstring"]}
    worse = curve_rows(model, table, {"docstring": probes["docstring"]}, upside_down)
    assert next(row["value"] for row in worse if row["measure"] == "cpr") < area["cpr"] - 0.2


def test_a_task_that_the_model_does_not_do_is_named(shipped, caplog):
    model, table, probes, scores = shipped
    strange = ContrastProbe(type(b)(b.input_ids, b.attention_mask, b.targets, b.input_ids, b.wrong)
                            for b in probes["induction"].batches)  # fmt: skip
    with caplog.at_level(logging.WARNING):
        assert curve_rows(model, table, {"induction": strange}, scores) == []
    assert "no faithfulness curve of induction" in caplog.text
