"""From records to numbers: averaging, pairing, failures, tuning and the published schema."""

import json

import pytest

from foresight.comparison.arms import ARMS, arms
from foresight.comparison.results import Cell, Measures, Record
from foresight.comparison.summary import summarise
from foresight.comparison.tuning import tune
from foresight.errors import UnknownNameError
from synthetic_runs import RATES, RETAINED, comparison


def tuning_run(rate: float, area: float | None, task: str = "t") -> Record:
    measures = None if area is None else Measures({task: 0.5}, log_loss_area=area)
    return Record(
        f"{rate}{task}", Cell("tune", "static", task, learning_rate=rate), {}, measures, None if measures else "NaN"
    )


def test_results_have_the_published_schema():
    data = json.loads(json.dumps(summarise(comparison(), 0.1, RETAINED).to_json(), allow_nan=False))
    assert data["budget"] == 0.1 and data["sentence"]
    assert set(data["arms"]) == set(ARMS) >= {"full", "random", "static", "reactive", "foresight", "oracle"}
    for arm in data["arms"].values():
        for measure in ("target_accuracy", "retained_accuracy", "overlap"):
            value = arm[measure]
            assert value["low"] <= value["mean"] <= value["high"] and value["n"] == 4
        assert arm["train_seconds"] > 0 and isinstance(arm["peak_bytes"], int)


def test_draws_are_averaged_before_they_count():
    """Three draws on four units are four values of the random arm, and its runs are twelve."""
    records = comparison()
    random = summarise(records, 0.1, RETAINED).arms["random"]
    assert (random.target_accuracy.n, random.runs) == (4, 12)
    draws = [r.measures.accuracy[r.cell.task] for r in records if r.cell.stage == "score" and r.cell.arm == "random"]
    assert random.target_accuracy.mean == pytest.approx(sum(draws) / 12)


def test_a_true_effect_is_found_and_signed():
    summary = summarise(comparison({"foresight": 0.1}, tasks=8), 0.1, RETAINED)
    difference = summary.contrasts["foresight - static"]
    assert difference["target_accuracy"].mean == pytest.approx(0.1, abs=0.02)
    assert difference["target_accuracy"].decided == 1
    assert difference["log_loss_area"].decided == -1
    assert summary.verdict.outcome == summary.speed.outcome == "win"


def test_failed_runs_are_counted_listed_and_not_averaged():
    summary = summarise(comparison(fails={"reactive": "NonFiniteError: the loss is nan"}), 0.1, RETAINED)
    reactive = summary.arms["reactive"]
    assert (reactive.failed, reactive.runs, reactive.target_accuracy.mean, reactive.peak_bytes) == (4, 4, None, None)
    assert len(summary.failures) == 4 and "loss is nan" in summary.failures[0][1]
    assert any("Reactive: 4 runs failed" in caveat for caveat in summary.verdict.caveats)
    json.dumps(summary.to_json(), allow_nan=False)


def test_the_target_is_not_among_the_retained():
    records = comparison(tasks=1)
    with_target, without = (summarise(records, 0.1, names).arms["full"] for names in (("task0", *RETAINED), RETAINED))
    assert with_target.retained_accuracy == without.retained_accuracy
    assert summarise(records, 0.1, ("task0",)).arms["full"].retained_accuracy.n == 0


def test_every_arm_is_tuned_over_the_same_rates():
    tuning = summarise(comparison(), 0.1, RETAINED).tuning
    assert {tuple(tuned.areas) for tuned in tuning.values()} == {RATES}
    assert {tuned.learning_rate for tuned in tuning.values()} == {RATES[1]}
    assert not any(tuned.at_edge for tuned in tuning.values())


def test_tuning_takes_the_lowest_area_over_all_tuning_tasks():
    runs = [
        tuning_run(0.1, -1.0, "a"),
        tuning_run(0.1, 1.0, "b"),
        tuning_run(0.2, -0.5, "a"),
        tuning_run(0.2, -0.5, "b"),
    ]
    assert tune(runs).learning_rate == 0.2
    assert tune(runs).areas == {0.1: 0.0, 0.2: -0.5}
    assert tune(runs).at_edge


def test_a_rate_that_diverges_anywhere_is_out():
    runs = [
        tuning_run(0.1, -1.0, "a"),
        tuning_run(0.2, -9.0, "a"),
        tuning_run(0.2, None, "b"),
        tuning_run(0.1, -1.0, "b"),
    ]
    assert tune(runs).learning_rate == 0.1
    assert tune([tuning_run(0.1, None)]).learning_rate is None


def test_rates_that_cannot_be_told_apart_go_to_the_smallest():
    runs = [tuning_run(0.1, -0.90), tuning_run(0.2, -0.97), tuning_run(0.4, -1.0)]
    assert tune(runs).learning_rate == 0.2
    assert not tune(runs).at_edge
    assert tune([tuning_run(0.2, -1.0), tuning_run(0.1, -1.0)]).learning_rate == 0.1


def test_every_arm_differs_by_its_policy_alone():
    assert all(arm.settings["policy"] == name for name, arm in ARMS.items())
    assert all(set(arm.settings) <= {"policy", "record"} for arm in ARMS.values())
    assert [arm.name for arm in arms(["oracle", "full"])] == ["full", "oracle"]
    with pytest.raises(UnknownNameError, match="did you mean 'static'"):
        arms(["statik"])
