"""Runs that failed, diverged or did nothing are found, and no others."""

from dataclasses import replace

import pytest

from foresight.studies.compare.part import broken, seed_noise
from foresight.studies.compare.results import CurvePoint, Measures
from foresight.studies.compare.summary import summarise
from support.synthetic_runs import comparison, record, settings


def ending(found, loss: float, **changes):
    """The record with another last loss."""
    curve = (*found.measures.curve[:-1], replace(found.measures.curve[-1], loss=loss))
    return replace(found, measures=replace(found.measures, curve=curve, **changes))


def scored(arm: str = "static"):
    return [r for r in comparison() if r.cell.stage == "score" and r.cell.arm == arm]


def with_first(records, arm, change):
    """All records, the first scored run of an arm changed."""
    at = next(i for i, r in enumerate(records) if r.cell.stage == "score" and r.cell.arm == arm)
    return [*records[:at], change(records[at]), *records[at + 1 :]]


def diverged(found):
    return ending(found, 9.0)


def idle(found):
    curve = tuple(replace(point, loss=4.0) for point in found.measures.curve)
    return replace(found, measures=replace(found.measures, curve=curve))


def empty(found):
    return replace(found, measures=replace(found.measures, touched=0))


def failed(found):
    return replace(found, measures=None, error="NonFiniteError: the loss is nan")


WAYS = {"failed": failed, "diverged": diverged, "idle": idle}


def test_runs_that_learned_are_whole():
    assert broken([r for r in comparison() if r.cell.stage == "score"]) == {}


@pytest.mark.parametrize("change, how", [(diverged, "diverged"), (idle, "idle"), (empty, "idle"), (failed, "failed")])
def test_each_way_to_break_is_named(change, how):
    records = scored()
    found = broken([change(records[0]), *records[1:]])
    assert {key: run.how for key, run in found.items()} == {records[0].key: how}
    assert found[records[0].key].arm == "static" and found[records[0].key].words


def test_a_loss_that_ends_a_little_higher_is_chance():
    """Above the start by less than runs differ between seeds; a run far beyond that does not widen the bound."""
    records = scored()
    assert 0.005 < seed_noise(records) < 0.2
    start = records[0].measures.curve[0].loss
    assert broken([ending(records[0], 1.2 * start), *records[1:]]) == {}
    low = [replace(r.measures.curve[0], loss=0.01) for r in records]
    small = [
        replace(r, measures=replace(r.measures, curve=(first, replace(first, step=10, loss=0.01))))
        for r, first in zip(records, low, strict=True)
    ]
    assert "diverged" not in {run.how for run in broken([ending(small[0], 0.02), *small[1:]]).values()}
    assert len(broken([ending(records[0], start + 50), *records[1:]])) == 1


def test_a_loss_that_moves_in_its_last_bit_is_a_run():
    points = (CurvePoint(0, 4.0, 0.0), CurvePoint(10, 4.0 - 1e-15, 0.0))
    assert broken([record(scored()[0].cell, Measures({"t": 0.0}, curve=points, touched=1))]) == {}


@pytest.mark.parametrize("how", WAYS)
def test_a_broken_primary_arm_decides_nothing(how):
    """Foresight wins by far in the runs that are left, and still nothing is claimed."""
    config = settings(4)
    records = with_first(comparison(config, {"foresight": 0.2}), "foresight", WAYS[how])
    verdict = summarise(records, config).verdict
    assert verdict.outcome == "broken" and "decides nothing, because Foresight has broken runs" in verdict.sentence
    assert summarise(comparison(config, {"foresight": 0.2}), config).verdict.outcome == "win"


@pytest.mark.parametrize("how", WAYS)
def test_a_broken_run_is_in_no_average_and_its_arm_has_a_mark(how):
    config = settings(4)
    whole, records = comparison(config), with_first(comparison(config), "static", WAYS[how])
    part, before = summarise(records, config).budgets[0], summarise(whole, config).budgets[0]
    static = part.arms["static"]
    assert (static.runs, static.broken) == (8, {how: 1})
    assert static.measures["log_loss_area"].n == 7 and before.arms["static"].measures["log_loss_area"].n == 8
    assert abs(static.measures["target_loss"].mean - before.arms["static"].measures["target_loss"].mean) < 0.1
    for contrast in part.contrasts:
        assert (contrast.outcome == "broken") == ("static" in (contrast.a, contrast.b))
        assert contrast.outcome != "broken" or contrast.p_holm is None


def test_a_broken_arm_beside_the_question_does_not_touch_it():
    config = settings(4)
    records = with_first(comparison(config, {"foresight": 0.2}), "random", diverged)
    summary = summarise(records, config)
    assert summary.verdict.outcome == "win"
    assert [(run.arm, run.how) for run in summary.broken] == [("random", "diverged")]


def test_a_broken_oracle_is_said_beside_the_headroom():
    config = settings(4)
    verdict = summarise(with_first(comparison(config, {"oracle": 0.2}), "oracle", diverged), config).verdict
    assert any("Oracle has broken runs" in caveat for caveat in verdict.caveats)


def test_an_arm_of_which_no_setting_worked_is_broken_not_missing():
    config = settings(4)
    records = [
        replace(r, measures=None, error="NonFiniteError") if r.cell.stage == "tune" and r.cell.arm == "prior" else r
        for r in comparison(config, {"foresight": 0.2})
        if (r.cell.stage, r.cell.arm) != ("score", "prior")
    ]
    summary = summarise(records, config)
    assert summary.budgets[0].arms["prior"].broken == {"failed": 1}
    assert summary.verdict.outcome == "broken" and "Prior" in summary.verdict.sentence
    assert len(summary.failures) == 3
