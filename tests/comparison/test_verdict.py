"""The sentence says what the numbers show, whichever way they fall."""

import numpy as np
import pytest

from foresight.comparison.statistics import Interval
from foresight.comparison.verdict import LOG_LOSS_AREA, TARGET_ACCURACY, judge
from synthetic_runs import ACCURACY

UNITS = [(task, seed) for task in "abcdefgh" for seed in (1, 2)]


def values(units=UNITS, wobble=0.01, **changes: float) -> dict:
    """Accuracy of every arm on every unit; tasks differ in difficulty, arms by a constant and a little chance."""
    rng = np.random.default_rng(0)
    return {
        name: {unit: level + 0.05 * (ord(unit[0]) % 3) + wobble * rng.normal() for unit in units}
        for name, level in {**ACCURACY, **changes}.items()
    }


def test_win_with_headroom():
    verdict = judge(values(foresight=0.8, oracle=0.85), {})
    assert (verdict.outcome, verdict.headroom) == ("win", "some")
    assert verdict.sentence.startswith("There was something to win")
    assert "foresight beat that mask" in verdict.sentence
    assert verdict.gain.mean == pytest.approx(0.1, abs=0.02)


def test_loss_says_so():
    verdict = judge(values(foresight=0.6, oracle=0.85), {})
    assert (verdict.outcome, verdict.headroom) == ("loss", "some")
    assert "foresight lost to that mask" in verdict.sentence


def test_nothing_to_win_comes_first():
    verdict = judge(values(oracle=0.65, foresight=0.705), {})
    assert (verdict.outcome, verdict.headroom) == ("level", "none")
    assert verdict.sentence.startswith("There was nothing to win")
    assert "could not be told from that mask" in verdict.sentence


def test_a_null_with_headroom_is_reported_as_null():
    verdict = judge(values(oracle=0.85, foresight=0.705), {})
    assert (verdict.outcome, verdict.headroom) == ("level", "some")
    assert "could not be told from that mask" in verdict.sentence


@pytest.mark.parametrize(
    "oracle, opening", [(0.8, "Whether there was anything to win is open"), (0.68, "No headroom was seen")]
)
def test_wide_intervals_leave_headroom_open(oracle, opening):
    verdict = judge(values(UNITS[:4], wobble=0.1, oracle=oracle), {})
    assert verdict.headroom == "unclear"
    assert verdict.sentence.startswith(opening)


def test_the_best_simple_mask_is_what_counts():
    """Beating random is not winning: the baseline is the best of all simple masks, here the prior."""
    verdict = judge(values(prior=0.9, foresight=0.8), {})
    assert (verdict.baseline, verdict.outcome) == ("prior", "loss")


def test_picking_the_best_baseline_does_not_make_verdicts_from_noise():
    """Six equal arms, 100 times: the nominal rate of false wins and of false losses is at most 2.5 % each."""
    rng = np.random.default_rng(0)
    names = ("random", "static", "prior", "reactive", "foresight", "oracle")
    outcomes = [
        judge({name: {(task, 1): rng.normal() for task in "abcdefgh"} for name in names}, {}).outcome
        for _ in range(100)
    ]
    assert outcomes.count("win") <= 4 and outcomes.count("loss") <= 7


def test_lower_is_better_turns_the_signs():
    areas = {
        name: {unit: -value for unit, value in runs.items()}
        for name, runs in values(foresight=0.8, oracle=0.85).items()
    }
    verdict, accuracy = judge(areas, {}, LOG_LOSS_AREA), judge(values(foresight=0.8, oracle=0.85), {}, TARGET_ACCURACY)
    assert (verdict.outcome, verdict.gain) == ("win", accuracy.gain)


def test_one_run_decides_nothing():
    verdict = judge(values(UNITS[:1], foresight=0.99, oracle=0.99), {})
    assert (verdict.outcome, verdict.headroom, verdict.gain.low) == ("undecidable", "unclear", None)
    assert "no certainty" in verdict.sentence and "beat" not in verdict.sentence
    assert any("One task" in caveat for caveat in verdict.caveats)


def test_failed_foresight_is_incomplete_not_a_loss():
    verdict = judge({**values(), "foresight": {}}, {"foresight": 16})
    assert (verdict.outcome, verdict.baseline) == ("incomplete", None)
    assert "foresight has no usable run" in verdict.sentence
    assert "Foresight: 16 runs failed and are not in any average." in verdict.caveats


def test_a_failed_oracle_leaves_headroom_unknown():
    verdict = judge({**values(foresight=0.8), "oracle": {}}, {"oracle": 16})
    assert (verdict.outcome, verdict.headroom) == ("win", "unknown")


def test_partly_failed_arms_are_compared_where_all_ran():
    runs = values(foresight=0.8)
    runs["static"] = {unit: value for unit, value in runs["static"].items() if unit[0] != "a"}
    verdict = judge(runs, {"static": 2})
    assert verdict.gain.n == 14
    assert any("Only 14 of 16" in caveat for caveat in verdict.caveats)
    assert any("Static: 2 runs failed" in caveat for caveat in verdict.caveats)


def test_without_simple_masks_there_is_nothing_to_compare():
    runs = {name: found for name, found in values().items() if name in ("full", "foresight", "oracle")}
    assert judge(runs, {}).outcome == "incomplete"
    assert judge({}, {}).outcome == "incomplete"


def test_numbers_are_readable():
    interval = Interval(-0.0123, -0.034, 0.01, 4, 2, "t")
    assert TARGET_ACCURACY.difference(interval) == "−1.2 points [−3.4, +1.0]"
    assert TARGET_ACCURACY.difference(Interval(0.0, -1.538, 1.518, 4, 2, "t")) == "+0.0 points [−100.0, +100.0]"
    assert TARGET_ACCURACY.value(0.8123) == "81.2 %"
    assert LOG_LOSS_AREA.difference(Interval(0.1, None, None, 1, 1, "none")) == "+0.10"
