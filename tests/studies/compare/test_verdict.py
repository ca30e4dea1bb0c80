"""The sentence says what the numbers show, whichever way they fall."""

from dataclasses import replace

import numpy as np
import pytest

from foresight.common.intervals import Interval
from foresight.studies.compare.measures import MEASURES
from foresight.studies.compare.settings import CompareConfig
from foresight.studies.compare.verdict import judge
from support.synthetic_runs import ACCURACY

UNITS = [(task, ("shipped", seed)) for task in "abcdefgh" for seed in (1, 2)]
AREA, SHARE = MEASURES["log_loss_area"], MEASURES["target_accuracy"]
AHEAD = {"name": "ahead", "like": "oracle"}
QUESTION = CompareConfig(
    arms=["static", "foresight", "reactive", {"name": "prior", "like": "prior", "label": "Layer and kind"}, "oracle"],
    primary_measure="target_accuracy",
)


def values(units=UNITS, wobble=0.01, **changes: float) -> dict:
    """Accuracy of every arm on every unit; tasks differ in difficulty, arms by a constant and a little chance."""
    rng = np.random.default_rng(0)
    return {
        name: {unit: level + 0.05 * (ord(unit[0]) % 3) + wobble * rng.normal() for unit in units}
        for name, level in {**ACCURACY, **changes}.items()
    }


def test_win_with_headroom():
    verdict = judge(values(foresight=0.8, oracle=0.85), QUESTION)
    assert (verdict.outcome, verdict.headroom) == ("win", "some")
    assert verdict.sentence.startswith("There was something to win: hindsight (Oracle, ")
    assert "Foresight beat the best baseline" in verdict.sentence
    assert verdict.gain.nested.mean == pytest.approx(0.1, abs=0.02)


def test_loss_says_so():
    verdict = judge(values(foresight=0.6, oracle=0.85), QUESTION)
    assert (verdict.outcome, verdict.headroom) == ("loss", "some")
    assert "Foresight lost to the best baseline" in verdict.sentence


def test_nothing_to_win_comes_first():
    verdict = judge(values(oracle=0.65, foresight=0.705), QUESTION)
    assert (verdict.outcome, verdict.headroom) == ("level", "none")
    assert verdict.sentence.startswith("There was nothing to win")
    assert "could not be told from the best baseline" in verdict.sentence


def test_a_null_with_headroom_is_reported_as_null():
    verdict = judge(values(oracle=0.85, foresight=0.705), QUESTION)
    assert (verdict.outcome, verdict.headroom) == ("level", "some")
    assert "could not be told from the best baseline" in verdict.sentence


@pytest.mark.parametrize(
    "oracle, opening", [(0.8, "Whether there was anything to win is open"), (0.68, "No headroom was seen")]
)
def test_wide_intervals_leave_headroom_open(oracle, opening):
    verdict = judge(values(UNITS[:4], wobble=0.1, oracle=oracle), QUESTION)
    assert verdict.headroom == "unclear"
    assert verdict.sentence.startswith(opening)


def test_the_best_baseline_is_what_counts():
    """Beating the others is not winning; and arms are called by their labels."""
    verdict = judge(values(prior=0.9, foresight=0.8), QUESTION)
    assert (verdict.gain.best, verdict.outcome) == ("prior", "loss")
    assert "the best baseline (Layer and kind, " in verdict.sentence


def test_an_arm_that_nobody_declared_is_no_baseline():
    verdict = judge(values(random=0.99, foresight=0.8), QUESTION)
    assert verdict.outcome == "win"


def test_any_hindsight_can_show_headroom():
    question = replace(QUESTION, arms=[*QUESTION.arms, AHEAD])
    found = {**values(oracle=0.5), "ahead": values(oracle=0.9)["oracle"]}
    verdict = judge(found, question)
    assert verdict.headroom == "some" and "hindsight (ahead, " in verdict.sentence
    assert set(verdict.to_win) == {"oracle", "ahead"}
    alone = judge(found, replace(QUESTION, arms=[*QUESTION.arms[:-1], AHEAD])).to_win["ahead"].nested
    both = verdict.to_win["ahead"].nested
    assert both.low < alone.low < alone.high < both.high  # two kinds of hindsight, so wider intervals


def test_lower_is_better_turns_the_signs():
    areas = {
        name: {unit: -value for unit, value in runs.items()}
        for name, runs in values(foresight=0.8, oracle=0.85).items()
    }
    area = judge(areas, replace(QUESTION, primary_measure="log_loss_area"))
    accuracy = judge(values(foresight=0.8, oracle=0.85), QUESTION)
    assert (area.outcome, area.gain) == ("win", accuracy.gain)


def test_the_smallest_gain_that_could_be_seen_is_said_in_the_unit_of_the_measure():
    verdict = judge(values(), QUESTION)
    assert 0.005 < verdict.detectable < 0.05
    assert f"a true gain of +{100 * verdict.detectable:.1f} points or more in at least 80 %" in verdict.power
    wild = judge(values(UNITS[:4:2], wobble=0.5), QUESTION)
    assert "nothing could have been found" in wild.power


def test_one_run_decides_nothing():
    verdict = judge(values(UNITS[:1], foresight=0.99, oracle=0.99), QUESTION)
    assert (verdict.outcome, verdict.headroom, verdict.gain.nested.low) == ("undecidable", "unclear", None)
    assert "no certainty" in verdict.sentence and "beat" not in verdict.sentence
    assert any("One task" in caveat for caveat in verdict.caveats)
    assert verdict.detectable is None and "unknown" in verdict.power


def test_a_primary_arm_without_runs_is_incomplete_not_a_loss():
    verdict = judge({**values(), "foresight": {}}, QUESTION)
    assert (verdict.outcome, verdict.gain) == ("incomplete", None)
    assert "Foresight has no run" in verdict.sentence


def test_broken_arms_decide_nothing():
    for name in ("foresight", "static"):
        verdict = judge(values(foresight=0.9), QUESTION, {name})
        assert verdict.outcome == "broken" and f"because {name.capitalize()} has broken runs" in verdict.sentence
    assert judge({**values(), "foresight": {}}, QUESTION, {"foresight"}).outcome == "broken"
    assert judge(values(foresight=0.9), QUESTION, {"random"}).outcome == "win"


def test_without_hindsight_headroom_is_unknown():
    verdict = judge({**values(foresight=0.8), "oracle": {}}, QUESTION)
    assert (verdict.outcome, verdict.headroom) == ("win", "unknown")


def test_partly_missing_arms_are_compared_where_all_ran():
    runs = values(foresight=0.8)
    runs["static"] = {unit: value for unit, value in runs["static"].items() if unit[0] != "a"}
    verdict = judge(runs, QUESTION)
    assert verdict.gain.nested.n == 14
    assert any("Only 14 of 16" in caveat for caveat in verdict.caveats)


def test_a_missing_baseline_is_said():
    runs = {name: found for name, found in values(foresight=0.8).items() if name != "static"}
    assert "Without Static: no usable run." in judge(runs, QUESTION).caveats


def test_without_baselines_there_is_nothing_to_compare():
    runs = {name: found for name, found in values().items() if name in ("full", "foresight", "oracle")}
    assert judge(runs, QUESTION).outcome == "incomplete"
    assert judge({}, QUESTION).outcome == "incomplete"
    apart = {**values(UNITS[:2]), "foresight": values(UNITS[2:4])["foresight"]}
    assert "no task and seed in common" in judge(apart, QUESTION).sentence


def test_numbers_are_readable():
    interval = Interval(-0.0123, -0.034, 0.01, 4, 2, "t")
    assert SHARE.difference(interval) == "−1.2 points [−3.4, +1.0]"
    assert SHARE.difference(Interval(0.0, -1.538, 1.518, 4, 2, "t")) == "+0.0 points [−100.0, +100.0]"
    assert SHARE.value(0.8123) == "81.2 %"
    assert AREA.difference(Interval(0.1, None, None, 1, 1, "none")) == "+0.10"
    assert AREA.value(-0.001) == "0.00"
