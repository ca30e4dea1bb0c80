"""Intervals and tests against hand values, and what they do on simulated runs of known truth."""

import numpy as np
import pytest
from scipy import stats

from foresight.common.errors import DataError
from foresight.common.intervals import (
    among_random,
    detectable,
    holm,
    log_loss_area,
    mean_interval,
    p_value,
    paired_difference,
)


def simulated(rng: np.random.Generator, tasks: int, seeds: int, task_spread: float = 1.0, seed_spread: float = 0.3):
    """Values with true mean 0 whose seeds share the difficulty of their task."""
    difficulty = task_spread * rng.normal(size=tasks)
    return {(f"task{t}", s): difficulty[t] + seed_spread * rng.normal() for t in range(tasks) for s in range(seeds)}


def test_one_unit_has_no_interval():
    result = mean_interval({("a", 0): 0.4})
    assert (result.mean, result.low, result.high, result.n, result.method) == (0.4, None, None, 1, "none")
    assert result.decided == 0


def test_nothing_is_no_number():
    result = mean_interval({})
    assert (result.mean, result.low, result.n) == (None, None, 0)


def test_few_units_by_hand():
    """Two tasks with means 1 and 3: mean 2, standard error 1, t(.975, 1 degree of freedom) = 12.706."""
    result = mean_interval({("a", 0): 0.5, ("a", 1): 1.5, ("b", 0): 3.0, ("b", 1): 3.0})
    assert result.mean == pytest.approx(2.0)
    assert (result.low, result.high) == pytest.approx((2 - 12.706, 2 + 12.706), abs=1e-3)
    assert (result.n, result.units, result.method) == (4, 2, "t")


def test_every_task_counts_alike_however_many_seeds_it_has():
    many = {("a", s): 1.0 for s in range(9)} | {("b", 0): 0.0}
    assert mean_interval(many).mean == pytest.approx(0.5)


def test_one_task_is_resampled_over_its_seeds():
    result = mean_interval({("a", s): float(s) for s in range(8)})
    assert (result.units, result.method) == (8, "bootstrap")
    assert 0 < result.low < 3.5 < result.high < 7


def test_same_input_same_interval():
    values = {("a", s): float(s) ** 2 for s in range(8)}
    assert mean_interval(values) == mean_interval(values)


@pytest.mark.parametrize("tasks", [2, 4, 6, 8, 15])
def test_intervals_cover_the_truth_as_often_as_they_say(tasks):
    """95 % nominal; 300 simulations have a standard error of 1.3 points."""
    rng = np.random.default_rng(tasks)
    intervals = [mean_interval(simulated(rng, tasks, seeds=3)) for _ in range(300)]
    covered = np.mean([i.low <= 0 <= i.high for i in intervals])
    assert 0.91 <= covered <= 0.99


def test_seeds_of_one_task_do_not_pass_for_tasks():
    """Twenty seeds on four tasks of unequal difficulty are four facts, not eighty."""
    rng = np.random.default_rng(0)
    runs = [simulated(rng, tasks=4, seeds=20) for _ in range(200)]
    clustered = np.mean([mean_interval(values).decided != 0 for values in runs])
    as_if_independent = np.mean(
        [mean_interval({("one", i): v for i, v in enumerate(values.values())}).decided != 0 for values in runs]
    )
    assert clustered <= 0.1 and as_if_independent >= 0.4


def test_pairing_removes_what_the_arms_share():
    rng = np.random.default_rng(0)
    base = simulated(rng, tasks=8, seeds=2, task_spread=5.0)
    better = {unit: value + 0.2 + 0.05 * rng.normal() for unit, value in base.items()}
    assert paired_difference(better, base).decided == 1
    assert paired_difference(base, better).decided == -1
    assert mean_interval(better).decided == mean_interval(base).decided == 0


def test_only_pairs_are_compared():
    result = paired_difference({("a", 0): 3.0, ("b", 0): 9.0}, {("a", 0): 1.0, ("c", 0): 9.0})
    assert (result.mean, result.n) == (2.0, 1)


def test_equal_everywhere_is_an_interval_of_no_width():
    same = {(task, 0): 0.7 for task in "abcdefg"}
    assert (paired_difference(same, same).low, paired_difference(same, same).high) == (0.0, 0.0)
    assert mean_interval(same).low == pytest.approx(0.7)


def test_a_few_equal_differences_decide_nothing():
    """Two tasks that both gain exactly one example in a hundred are a coincidence; eight are not."""
    assert mean_interval({(task, 0): 0.01 for task in "ab"}).decided == 0
    assert mean_interval({(task, 0): 0.01 for task in "abcdefgh"}).decided == 1


def test_a_diverged_run_is_refused_not_averaged():
    with pytest.raises(DataError, match="leave failed runs out"):
        mean_interval({("a", 0): float("nan"), ("a", 1): 1.0})


def test_log_loss_area_by_hand():
    """ln(e) falls linearly to ln(1): the trapezoid's mean is .5 over equal and .75 over a late fall."""
    e = np.e - 0.01
    assert log_loss_area([0, 10], [e, 0.99]) == pytest.approx(0.5)
    assert log_loss_area([0, 5, 10], [e, e, 0.99]) == pytest.approx(0.75)


@pytest.mark.parametrize(
    "steps, losses", [([0], [1.0]), ([0, 0], [1.0, 1.0]), ([0, 1], [1.0, float("inf")]), ([0, 1], [1.0])]
)
def test_a_curve_that_is_none_is_refused(steps, losses):
    with pytest.raises(DataError, match="learning curve"):
        log_loss_area(steps, losses)


def test_an_interval_of_shares_stays_within_what_is_possible():
    wide = mean_interval({("a", 0): 0.1, ("b", 0): 0.9})
    assert wide.low is not None and wide.low < 0
    assert (wide.within(0, 1).low, wide.within(0, 1).high, wide.within(0, 1).mean) == (0, 1, wide.mean)
    alone = mean_interval({("a", 0): 0.1})
    assert alone.within(0, 1) == alone


def units(values) -> dict:
    return {(f"task{i}", 0): float(value) for i, value in enumerate(values)}


def test_p_is_that_of_the_paired_t_test():
    values = np.random.default_rng(0).normal(0.5, 1, 9)
    for alternative in ("two-sided", "greater", "less"):
        expected = stats.ttest_1samp(values, 0, alternative=alternative).pvalue
        assert p_value(units(values), alternative) == pytest.approx(expected)
    assert p_value({("a", 0): 1.0}) is None


def test_without_spread_p_is_that_of_the_signs():
    assert p_value(units([0.1] * 6)) == pytest.approx(2 / 2**6)
    assert p_value(units([0.1] * 6), "less") == 1
    assert p_value(units([0.0] * 6)) == 1


def test_many_seeds_of_few_tasks_make_no_small_p():
    """Twenty seeds on four tasks: 5 % nominal, 500 simulations have a standard error of 1 point."""
    rng = np.random.default_rng(1)
    found = np.mean([p_value(simulated(rng, tasks=4, seeds=20)) < 0.05 for _ in range(500)])
    assert 0.025 <= found <= 0.08


def test_holm_by_hand():
    """Sorted .01, .03, .04: times 3, 2, 1, and never below the one before."""
    assert holm({"a": 0.04, "b": 0.01, "c": 0.03}) == pytest.approx({"b": 0.03, "c": 0.06, "a": 0.06})
    assert holm({"a": 0.9, "b": 0.8}) == {"b": 1.0, "a": 1.0}
    assert holm({}) == {}


def test_holm_controls_the_chance_of_any_false_finding():
    """Ten tests, two of true effects: some of the other eight is found in 5 % of all cases at most, else in 30 %."""
    rng = np.random.default_rng(2)
    false, uncorrected, found = 0, 0, 0
    for _ in range(500):
        data = rng.normal(size=(10, 8)) + 2.0 * (np.arange(10) < 2)[:, None]
        p = dict(enumerate(stats.ttest_1samp(data, 0, axis=1).pvalue))
        adjusted = holm(p)
        false += any(adjusted[i] < 0.05 for i in range(2, 10))
        uncorrected += any(p[i] < 0.05 for i in range(2, 10))
        found += adjusted[0] < 0.05
    assert false / 500 <= 0.075 and uncorrected / 500 > 0.25 and found / 500 > 0.6


@pytest.mark.parametrize("tasks", [2, 4, 8, 15])
def test_a_true_effect_is_found_at_the_stated_power(tasks):
    """80 % nominal; 1000 simulations have a standard error of 1.3 points."""
    rng = np.random.default_rng(tasks)
    spread = rng.normal(size=tasks)
    effect = detectable([units((spread - spread.mean()) / spread.std(ddof=1))])
    p = stats.ttest_1samp(effect + rng.normal(size=(1000, tasks)), 0, axis=1).pvalue
    assert np.mean(p < 0.05) == pytest.approx(0.8, abs=0.045)


def test_the_detectable_effect_grows_with_spread_and_shrinks_with_tasks():
    values = np.tile([-1.0, 1.0], 8)
    assert detectable([units(3 * values)]) == pytest.approx(3 * detectable([units(values)]), rel=1e-6)
    assert detectable([units(values)]) < detectable([units(values[:6])])
    assert detectable([units(values), units(values[::-1])]) > detectable([units(values)])


def test_where_nothing_is_repeated_nothing_is_known_of_power():
    assert detectable([units([1.0])]) is None
    assert detectable([units([1.0, 1.0])]) is None
    assert detectable([]) is None


def test_a_value_among_random_ones_is_tested_exactly():
    """By hand: two units with two others each; of nine sums only that of both best values is as high."""
    assert among_random([(3.0, np.array([1.0, 2.0])), (6.0, np.array([4.0, 5.0]))]) == pytest.approx(1 / 9)
    assert among_random([(1.0, np.array([1.0, 1.0]))]) == 1.0
    assert among_random([(0.0, np.array([1.0, 2.0, 3.0]))]) == 1.0


@pytest.mark.parametrize("units, draws", [(4, 3), (12, 4)], ids=["counted", "drawn"])
def test_among_random_keeps_its_level(units, draws):
    """With nothing in the choice, p <= .05 comes about as often as that, counted or drawn."""
    rng = np.random.default_rng(0)
    values = rng.normal(size=(400, units, draws + 1))
    p = [among_random([(v[0], v[1:]) for v in found]) for found in values]
    assert np.mean(np.array(p) <= 0.05) < 0.05 + 2.5 * np.sqrt(0.05 * 0.95 / 400)
    assert np.mean(np.array([among_random([(v[0] + 2, v[1:]) for v in found]) for found in values[:40]]) <= 0.05) > 0.8
