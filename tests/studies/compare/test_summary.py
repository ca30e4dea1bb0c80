"""From records to numbers: averaging, pairing, budgets, forgetting, Holm and the published schema."""

import json
from dataclasses import replace

import numpy as np
import pytest

from foresight.common.intervals import holm
from foresight.studies.compare.measures import FORGETTING
from foresight.studies.compare.summary import corrected, summarise
from support.synthetic_runs import RATES, comparison, settings


def contrast(summary, a: str, b: str, measure: str, budget: int = 0):
    (found,) = [c for c in summary.budgets[budget].contrasts if (c.a, c.b, c.measure) == (a, b, measure)]
    return found


@pytest.fixture(scope="module")
def plain():
    config = settings()
    return summarise(comparison(config), config)


def test_results_have_the_published_schema(plain):
    data = json.loads(json.dumps(plain.to_json(), allow_nan=False))
    (part,) = data["budgets"]
    assert data["schema"] == 2 and data["sentence"] and data["power"] and part["budget"] == 0.1
    assert set(part["arms"]) == {"full", "random", "static", "prior", "reactive", "foresight", "oracle"}
    for arm in part["arms"].values():
        for key in ("target_accuracy", "retained_accuracy", "overlap"):
            value = arm["measures"][key]
            assert value["low"] <= value["mean"] <= value["high"] and value["n"] == 4
        assert arm["train_seconds"] > 0 and isinstance(arm["peak_bytes"], int)
    assert part["tuning"]["static"]["areas"]["restarts"].keys() == {str(rate) for rate in RATES}


def test_draws_are_averaged_before_they_count(plain):
    """Three draws on four units are four values of the random arm, and its runs are twelve."""
    random = plain.budgets[0].arms["random"]
    assert (random.measures["target_accuracy"].n, random.runs) == (4, 12)
    draws = [r for r in comparison(settings()) if (r.cell.stage, r.cell.arm) == ("score", "random")]
    expected = np.mean([r.measures.curve[-1].accuracy for r in draws])
    assert random.measures["target_accuracy"].mean == pytest.approx(expected)


def test_base_models_repeat_a_task():
    """Two models of two seeds on two tasks: eight runs, and two independent facts."""
    config = settings(models=["one", "two"])
    found = summarise(comparison(config), config).budgets[0].arms["static"].measures["target_loss"]
    assert (found.n, found.units) == (8, 2)


def test_a_true_effect_is_found_and_signed():
    config = settings(8)
    summary = summarise(comparison(config, {"foresight": 0.1}), config)
    found = contrast(summary, "foresight", "static", "target_accuracy")
    assert found.interval.mean == pytest.approx(0.1, abs=0.02)
    assert found.interval.decided == 1 and found.outcome == "not tested" and found.p is None
    area = contrast(summary, "foresight", "static", "log_loss_area")
    assert area.interval.decided == -1 and area.outcome == "better" and area.p_holm >= area.p
    assert contrast(summary, "random", "static", "log_loss_area").outcome == "worse"
    assert contrast(summary, "reactive", "static", "log_loss_area").outcome == "level"
    assert summary.verdict.outcome == "win"


def test_every_pair_is_compared_once(plain):
    pairs = [frozenset((c.a, c.b)) for c in plain.budgets[0].contrasts if c.measure == "log_loss_area"]
    assert len(pairs) == len(set(pairs)) == 18  # 6 with static, 5 more with random, 4 with full, 3 with foresight


def test_the_correction_runs_over_all_budgets_and_both_tested_measures():
    config = settings(4, budgets=[0.1, 0.02])
    summary = summarise(comparison(config), config)
    tested = [c for part in summary.budgets for c in part.contrasts if c.p is not None]
    assert {c.measure for c in tested} == {"log_loss_area", FORGETTING.key}
    family = {i: c.p for i, c in enumerate(tested)} | {-1: summary.budgets[1].verdict.gain.p}
    adjusted = holm(family)
    assert [c.p_holm for c in tested] == pytest.approx([adjusted[i] for i in range(len(tested))])
    assert summary.budgets[0].p_holm is None and summary.budgets[1].p_holm == pytest.approx(adjusted[-1])


def test_nothing_is_left_of_noise_after_the_correction():
    """Twenty contrasts of pure noise: one of them looks real in most cases, and after Holm in 5 % at most."""
    config = settings(8)
    (part,) = summarise(comparison(config), config).budgets
    rng, raw, found = np.random.default_rng(0), 0, 0
    for _ in range(300):
        drawn = zip(part.contrasts[:20], rng.random(20), strict=True)
        noise = tuple(replace(c, p=float(p), outcome="undecidable") for c, p in drawn)
        decided = corrected([replace(part, contrasts=noise)])[0].contrasts
        raw += any(c.p < 0.05 for c in noise)
        found += any(c.p_holm < 0.05 for c in decided)
    assert raw / 300 > 0.5 and found / 300 < 0.09


def test_arms_without_a_mask_are_the_same_at_every_budget():
    config = settings(budgets=[0.1, 0.02])
    one, two = summarise(comparison(config, {"static": 0.1}), config).budgets
    assert one.arms["full"] == two.arms["full"] and one.arms["full"].runs == 4
    assert one.arms["static"] != two.arms["static"] and two.arms["static"].runs == 4


def test_less_forgetting_at_equal_target_loss_is_found():
    """The reactive arm pays .2 instead of .5 nats; the oracle only learns more, at the same price."""
    config = settings(8)
    summary = summarise(comparison(config, {"oracle": 0.15}, costs={"reactive": 0.2}), config)
    cheap, more = (contrast(summary, name, "static", FORGETTING.key) for name in ("reactive", "oracle"))
    assert cheap.outcome == "better" and cheap.interval.mean < -0.05
    assert more.outcome == "level" and abs(more.interval.mean) < 0.005
    forgot = contrast(summary, "oracle", "static", "retained_loss")
    assert forgot.interval.decided == 1  # what the raw retained loss would have said


def test_a_frontier_takes_all_learning_rates_and_the_averages_take_one():
    config = settings(frontier=True)
    records = comparison(config)
    scored = [r for r in records if r.cell.stage == "score"]
    more = [replace(r, key=r.key + "x", cell=replace(r.cell, learning_rate=RATES[0])) for r in scored]
    wrecked = [replace(r, measures=replace(r.measures, log_loss_area=99.0)) for r in more]
    one, both = summarise(records, config), summarise([*records, *wrecked], config)
    assert one.budgets[0].arms == both.budgets[0].arms


def test_pairs_that_share_no_target_loss_are_counted():
    config = settings()
    records = [
        replace(
            r, measures=replace(r.measures, curve=tuple(replace(p, loss=4.0 - 1e-4 * p.step) for p in r.measures.curve))
        )
        if (r.cell.stage, r.cell.arm) == ("score", "prior")
        else r
        for r in comparison(config)
    ]
    found = contrast(summarise(records, config), "prior", "static", FORGETTING.key)
    assert (found.unmatched, found.interval.mean, found.outcome) == (4, None, "undecidable")


def test_without_retained_tasks_nothing_is_forgotten():
    config = settings(retained_tasks=[])
    records = [
        replace(r, measures=replace(r.measures, curve=tuple(replace(p, retained_loss=None, retained_accuracy=None)
                                                            for p in r.measures.curve)))
        if r.measures
        else r
        for r in comparison(config)
    ]  # fmt: skip
    summary = summarise(records, config)
    assert not [c for c in summary.budgets[0].contrasts if c.measure == FORGETTING.key]
    assert summary.budgets[0].arms["static"].measures["retained_loss"].n == 0


def test_steps_to_the_target_are_a_median_with_the_share_that_got_there():
    config = settings(4)
    part = summarise(comparison(config, {"prior": -0.4}), config).budgets[0]
    assert part.arms["full"].reached == 1 and 20 < part.arms["full"].steps_to_target < 40
    assert part.arms["prior"].reached == 0 and part.arms["prior"].steps_to_target is None


def test_costs_are_shares_of_all_parameters(plain):
    arms = plain.budgets[0].arms
    assert (arms["full"].trainable, arms["static"].trainable) == (1.0, pytest.approx(0.1))
    assert arms["foresight"].touched == pytest.approx(0.2)


def test_the_ceiling_is_what_seeds_share(plain):
    ceiling = plain.budgets[0].ceiling
    assert 0.3 < ceiling.circuits.mean < 1 and ceiling.circuits.units == 2
    assert 0 < ceiling.spread < 0.1
    alone = settings(seeds=1)
    found = summarise(comparison(alone), alone).budgets[0].ceiling
    assert found.circuits.mean is None and found.spread is None


def test_task_means_and_the_models_before_training(plain):
    tasks = plain.budgets[0].tasks
    assert list(tasks) == ["gender", "ioi"] and set(tasks["ioi"]) == set(plain.budgets[0].arms)
    assert plain.base["accuracy"]["gender"] == pytest.approx(0.1)


def test_failures_of_other_stages_are_listed():
    config = settings()
    records = [replace(r, measures=None, error="boom") if r.cell.stage == "base" else r for r in comparison(config)]
    summary = summarise(records, config)
    assert [error for _, error in summary.failures] == ["boom"] and summary.broken == ()
    assert summary.base == {"accuracy": {}, "loss": {}}


def test_the_summary_of_nothing_says_so():
    config = settings()
    summary = summarise([], config)
    assert summary.verdict.outcome == "incomplete"
    json.dumps(summary.to_json(), allow_nan=False)


def test_arms_take_their_place_among_random_masks(plain):
    """In the synthetic comparison every arm with a mask is far better than the random one; hindsight is no method."""
    found = {one.arm: one for one in plain.budgets[0].among_random}
    assert set(found) == {"static", "prior", "reactive", "foresight"}
    assert all((one.beaten, one.units, one.draws) == (1.0, 4, 3) for one in found.values())
    assert all(one.p == pytest.approx(4**-4) and one.p_holm == pytest.approx(4 * 4**-4) for one in found.values())


def test_only_random_masks_of_the_same_learning_rate_are_places_to_take():
    """Here the random arm and the static one were tuned to another rate than the others."""
    config = settings()

    def moved(record):
        elsewhere = record.cell.stage == "score" and record.cell.arm in ("random", "static")
        return replace(record, cell=replace(record.cell, learning_rate=9.0)) if elsewhere else record

    summary = summarise([moved(record) for record in comparison(config)], config)
    assert {one.arm for one in summary.budgets[0].among_random} == {"static"}
