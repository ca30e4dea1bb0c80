import pytest

from foresight.common.errors import BudgetError, ConfigError, UnknownNameError
from foresight.masks.budget import budget_vectors
from foresight.masks.budget_schedule import SHAPES, BudgetSchedule
from support.planted import make_table

TABLE = make_table(layers=4, heads=8, blocks=8, parameters=4_000)  # 224 vectors of 8


@pytest.mark.parametrize("shape", [*SHAPES, "[[0, 3], [0.1, 2], [0.9, 0.5]]", [[0, 7], [0.25, 1]]], ids=str)
def test_the_mean_over_the_run_is_the_budget(shape):
    schedule, total = BudgetSchedule.of(shape), 1200
    rows = [schedule.vectors(TABLE, 0.1, step, total) for step in range(total)]
    exact = 0.1 * TABLE.model_parameters / TABLE.d_model
    assert exact - 1 < sum(rows) / total <= exact
    mean, peak = schedule.mean_and_peak(TABLE, 0.1)
    assert peak == max(rows) and abs(mean - sum(rows) / total) < 0.1
    assert schedule.boundaries(total) == {s for s in range(1, total) if rows[s] != rows[s - 1]}


def test_shapes():
    front, grown = BudgetSchedule.of("front-loaded"), BudgetSchedule.of("grown")
    assert front.factors == pytest.approx((2.1, 0.75, 0.15)) and grown.factors == pytest.approx((0.15, 0.75, 2.1))
    assert front.peak == pytest.approx(2.1) and not front.constant
    assert front.boundaries(90) == {30, 60} and front.boundaries(2) == {1}


@pytest.mark.parametrize("shape", [None, "constant", [[0, 5]], "[[0, 0.01]]"])
def test_one_stage_is_the_plain_budget(shape):
    schedule = BudgetSchedule.of(shape)
    assert schedule == BudgetSchedule() and schedule.constant and not schedule.boundaries(100)
    for budget in (0.01, 0.29, 1.0):
        assert schedule.vectors(TABLE, budget, 7, 10) == budget_vectors(TABLE, budget)


@pytest.mark.parametrize(
    "stages",
    ["[[0, 1], [0.5]]", [[0.1, 1]], [[0, 1], [0.5, 0]], [[0, 1], [0.5, 1], [0.4, 1]], [[0, 1], [1, 2]], [1, 2],
     [[0, "inf"]], [[0, 1], [0.5, "x"]], "[[0, 1]", 3],
    ids=str,
)  # fmt: skip
def test_malformed_stages_are_refused_with_an_example(stages):
    with pytest.raises(ConfigError, match=r"budget_schedule.*\[\[0, 14\], \[0.3, 5\], \[0.6, 1\]\]"):
        BudgetSchedule.of(stages)


def test_unknown_shape_and_budgets_that_no_stage_can_have():
    with pytest.raises(UnknownNameError, match="did you mean 'front-loaded'"):
        BudgetSchedule.of("frontloaded")
    with pytest.raises(BudgetError, match="stage that begins at 0.667 of the run has 0.15 times the budget 0.03"):
        BudgetSchedule.of("front-loaded").mean_and_peak(TABLE, 0.03)
    with pytest.raises(BudgetError, match="2.1 times the budget 0.5.*in \\(0, 1\\]"):
        BudgetSchedule.of("front-loaded").vectors(TABLE, 0.5, 0, 10)
