"""Faithfulness curves of a study: areas agree with the curve, an absent behaviour is left out by name."""

import logging

import numpy as np
import pytest

from foresight.model.components import component_table
from foresight.model.shipped import model_path
from foresight.scoring import ContrastProbe, make_scorer
from foresight.studies.track.curves import curve_rows
from foresight.tasks import task


@pytest.fixture(scope="module")
def measured():
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(model_path())
    tokenizer, table = AutoTokenizer.from_pretrained(model_path()), component_table(model)
    probes = {}
    for name in ("docstring", "induction"):
        pairs = task(name).contrast(tokenizer, "test", 16)
        probes[name] = ContrastProbe.from_dataset(pairs, tokenizer, 16, 16)
    scores = {n: np.abs(make_scorer("attribution").score(model, table, p).values) for n, p in probes.items()}
    return model, table, probes, scores


def test_curve_and_areas(measured):
    model, table, probes, scores = measured
    rows = [row for row in curve_rows(*measured) if row["circuit_of"] == "docstring"]
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


def test_a_task_that_the_model_does_not_do_is_named(measured, caplog):
    model, table, probes, scores = measured
    strange = ContrastProbe(type(b)(b.input_ids, b.attention_mask, b.targets, b.input_ids, b.wrong)
                            for b in probes["induction"].batches)  # fmt: skip
    with caplog.at_level(logging.WARNING):
        assert curve_rows(model, table, {"induction": strange}, scores) == []
    assert "no faithfulness curve of induction" in caplog.text
