"""A comparison in which nothing was learned, or nothing could be forgotten, says so first."""

from dataclasses import replace

import pytest

from foresight.studies.compare.learned import opening
from foresight.studies.compare.results import Cell, CurvePoint, Measures
from foresight.studies.compare.summary import summarise
from foresight.studies.ledger import Record
from support.synthetic_runs import comparison, settings


def runs(arm, task, falls):
    """One run per seed whose held-out loss falls by so much from 4."""
    return [
        Record(
            f"{arm}{task}{seed}",
            Cell("score", arm, task, seed=seed),
            {},
            Measures({}, curve=(CurvePoint(0, 4.0, 0.0), CurvePoint(9, 4.0 - fall, 0.0))),
        )
        for seed, fall in enumerate(falls)
    ]


def test_a_task_that_one_arm_learned_is_learned():
    whole = {"random": runs("random", "ioi", [0.0, 0.1, -0.1]), "full": runs("full", "ioi", [1.0, 1.1, 0.9])}
    assert opening(whole, {"reverse": 0.9}) == ""


@pytest.mark.parametrize("falls", [[0.0, 0.1, -0.1], [0.5, -0.2, 0.1], [-0.3]])
def test_a_fall_that_is_not_clear_of_zero_is_no_learning(falls):
    whole = {"full": [*runs("full", "ioi", falls), *runs("full", "rte", [1.0, 1.1])]}
    assert opening(whole, {}).startswith("No arm learned ioi, so differences there mean nothing")


def test_what_the_base_cannot_do_cannot_be_forgotten():
    words = opening({"full": runs("full", "ioi", [1.0, 1.1])}, {"reverse": 0.03, "copy": 0.8})
    assert words == "The base model cannot do reverse (accuracy 3%), so nothing can be forgotten there."


def test_the_verdict_opens_with_it():
    config, flat = settings(), []
    for record in comparison(config):
        if record.cell.stage == "score" and record.measures is not None:
            curve = tuple(replace(p, loss=4.0 + 0.001 * (i % 2)) for i, p in enumerate(record.measures.curve))
            record = replace(record, measures=replace(record.measures, curve=curve))
        flat.append(record)
    sentence = summarise(flat, config).verdict.sentence
    assert sentence.startswith(f"No arm learned {', '.join(config.target_tasks)}, so")
