"""One arm against the best of several, on simulated runs of known truth."""

from functools import cache

import numpy as np
import pytest

from foresight.common.intervals import detectable
from foresight.studies.compare.baseline import against_best, choose

SIMULATIONS = 500


def arms(values: np.ndarray) -> dict:
    """[arm, task, seed] -> arm -> unit -> value."""
    return {f"arm{j}": {(f"task{t}", s): float(v) for (t, s), v in np.ndenumerate(of)} for j, of in enumerate(values)}


def simulate(rng, effect=0.0, levels=(0.0, 0.0, 0.0), tasks=5, seeds=1, task_spread=0.0):
    """The primary arm at `effect` against baselines at `levels`; spread 1 between tasks, for each arm its own."""
    means = np.array([effect, *levels])[:, None, None]
    own = rng.normal(size=(len(means), tasks, 1)) + 0.3 * rng.normal(size=(len(means), tasks, seeds))
    shared = task_spread * rng.normal(size=(1, tasks, 1))
    found = arms(means + own + shared)
    return against_best(found.pop("arm0"), found)


@cache
def null(levels: tuple[float, ...]) -> list:
    """Comparisons of an arm that is as good as the best baseline, no better."""
    rng = np.random.default_rng(len(levels))
    return [simulate(rng, levels=levels) for _ in range(SIMULATIONS)]


ALIKE, ONE, BEST = (0.0, 0.0, 0.0), (0.0,), (0.0, -4.0, -4.0, -4.0)


def test_equal_arms_differ_by_zero_on_average():
    """The nested choice is without bias; the best in hindsight is not."""
    nested = np.array([result.nested.mean for result in null(ALIKE)])
    assert abs(nested.mean()) < 3 * nested.std() / np.sqrt(SIMULATIONS)
    assert np.mean([result.hindsight.mean for result in null(ALIKE)]) < -0.3


@pytest.mark.parametrize("levels", [ALIKE, ONE, BEST])
def test_a_null_is_found_no_more_often_than_it_may(levels):
    """Nominal: 2.5 % wins and 2.5 % losses at most; 500 simulations have a standard error of .7 points each."""
    wins = np.mean([result.nested.decided > 0 for result in null(levels)])
    losses = np.mean([result.nested.decided < 0 for result in null(levels)])
    assert wins <= 0.045 and losses <= 0.045
    assert np.mean([result.p < 0.05 for result in null(levels)]) <= 0.075


@pytest.mark.parametrize("levels", [ONE, BEST])
def test_where_one_baseline_is_the_best_a_false_win_is_as_frequent_as_it_may_be(levels):
    """The test is not simply deaf: with one clear best baseline its wins reach 2.5 %."""
    assert np.mean([result.nested.decided > 0 for result in null(levels)]) >= 0.008


def test_the_null_holds_for_bootstrap_intervals_too():
    rng = np.random.default_rng(3)
    found = [simulate(rng, levels=(0.0, -4.0), tasks=8) for _ in range(120)]
    assert {result.nested.method for result in found} == {"bootstrap"}
    assert np.mean([result.nested.decided != 0 for result in found]) <= 0.1


def test_many_seeds_of_few_tasks_do_not_pass_for_tasks():
    rng = np.random.default_rng(4)
    found = [simulate(rng, levels=(0.0,), tasks=4, seeds=20, task_spread=5.0) for _ in range(300)]
    assert {result.nested.units for result in found} == {4}
    assert np.mean([result.nested.decided != 0 for result in found]) <= 0.085


def stated_gain(rng, baselines: int, tasks: int = 5) -> float:
    """What a design with the true spread, 1 between the differences, says that it detects."""
    spread = rng.normal(size=(baselines, tasks))
    spread = (spread - spread.mean(1, keepdims=True)) / spread.std(1, ddof=1, keepdims=True)
    return detectable([{(str(t), 0): float(v) for t, v in enumerate(row)} for row in spread])


@pytest.mark.parametrize("baselines", [1, 3])
def test_a_true_gain_over_the_best_is_found_at_the_stated_power(baselines):
    """80 % over a single baseline, and at least that over the best of equal ones; standard error 2.3 points."""
    rng = np.random.default_rng(5)
    gain, level = np.sqrt(2 * 1.09) * stated_gain(rng, baselines), (0.0,) * baselines
    wins = np.mean([simulate(rng, gain, level).nested.decided > 0 for _ in range(300)])
    assert wins == pytest.approx(0.8, abs=0.06) if baselines == 1 else wins > 0.78


def test_the_baseline_of_a_task_is_chosen_without_it():
    """`a` is best on average through task 2 alone, where `b` is therefore the baseline."""
    means = {"a": {"1": 0.0, "2": 9.0, "3": 0.0}, "b": {"1": 1.0, "2": 1.0, "3": 1.0}}
    assert choose(means) == ("a", {"1": "a", "2": "b", "3": "a"})


def test_ties_go_to_the_first_named():
    same = {"1": 1.0, "2": 2.0}
    assert choose({"x": same, "y": same}) == ("x", {"1": "x", "2": "x"})


def test_of_one_task_the_best_is_picked_on_the_same_runs():
    worth = {"a": {("1", s): 0.0 for s in range(3)}, "b": {("1", s): 1.0 + s for s in range(3)}}
    found = against_best({("1", s): 3.0 + s for s in range(3)}, worth)
    assert (found.best, found.by_task) == ("b", {"1": "b"})
    assert found.nested.mean == found.hindsight.mean == pytest.approx(2.0)


def test_the_hindsight_choice_is_never_kinder_than_the_nested_one():
    rng = np.random.default_rng(7)
    for _ in range(100):
        found = simulate(rng, levels=tuple(rng.normal(size=3)))
        assert found.hindsight.mean <= found.nested.mean + 1e-12
        assert found.nested.low <= found.nested.mean <= found.nested.high


def test_only_units_that_all_arms_have_are_compared():
    mine = {("a", 0): 1.0, ("b", 0): 5.0, ("c", 0): 2.0}
    found = against_best(
        mine, {"x": {("a", 0): 0.0, ("c", 0): 0.0}, "y": {("a", 0): 0.0, ("b", 0): 0.0, ("c", 0): 0.0}}
    )
    assert found.nested.n == 2 and found.nested.mean == pytest.approx(1.5)
    assert against_best(mine, {"x": {("d", 0): 0.0}}) is None
    assert against_best(mine, {}) is None
