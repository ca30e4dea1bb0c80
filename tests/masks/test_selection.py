"""Which components a mask takes: budgets, order, ties, and what cannot be chosen from."""

import numpy as np
import pytest

from foresight.common.errors import BudgetError, ConfigError, NonFiniteError
from foresight.masks.budget import budget_vectors
from foresight.masks.masks import everything
from foresight.masks.selection import circuit_size, rotation, select
from foresight.model.components import component_table
from support.planted import make_table
from support.tiny import tiny

TABLE = make_table(layers=3, heads=4, blocks=5)  # heads of 4 vectors, MLP blocks of 3; 81 vectors of length 8
RNG = np.random.default_rng(0)


def size(mask):
    return int(TABLE.vectors[list(mask.components)].sum())


@pytest.mark.parametrize("n", [3, 4, 10, 40, 80, 81, 1000])
def test_a_mask_fits_the_budget_and_leaves_no_room_for_another_component(n):
    for _ in range(20):
        mask = select(RNG.random(len(TABLE)), TABLE, n)
        left = n - size(mask)
        outside = set(range(len(TABLE))) - set(mask.components)
        assert left >= 0 and all(TABLE.vectors[i] > left for i in outside)


def test_higher_scores_come_first():
    scores = RNG.random(len(TABLE))
    mask = select(scores, TABLE, 20)
    order = np.argsort(-scores)
    assert mask.components[0] >= 0 and int(order[0]) in mask.components
    for i in mask.components:  # whatever outranks a chosen component is chosen, unless it did not fit
        for j in np.flatnonzero(scores > scores[i]):
            assert j in mask.components or TABLE.vectors[j] > TABLE.vectors[i]


def test_ties_go_by_table_order_and_the_result_is_deterministic():
    assert select(np.ones(len(TABLE)), TABLE, 12).components == (0, 1, 2)
    scores = RNG.integers(0, 3, len(TABLE))
    assert select(scores, TABLE, 30) == select(scores.copy(), TABLE, 30)


def test_infinite_scores_order_as_usual_and_inputs_are_untouched():
    scores = np.zeros(len(TABLE))
    scores[7], scores[3] = np.inf, -np.inf
    before = scores.copy()
    mask = select(scores, TABLE, size(everything(TABLE)) - 4)
    assert 7 in mask.components and 3 not in mask.components
    np.testing.assert_array_equal(scores, before)


def test_bad_scores_are_refused():
    scores = np.ones(len(TABLE))
    scores[5] = np.nan
    with pytest.raises(NonFiniteError, match="1 scores are NaN .first: L0.mlp.1"):
        select(scores, TABLE, 10)
    with pytest.raises(ConfigError, match=r"shape \(3,\)"):
        select(np.ones(3), TABLE, 10)
    with pytest.raises(BudgetError, match="2 vectors"):
        select(np.ones(len(TABLE)), TABLE, 2)


def test_budget_counts_all_parameters_and_rounds_down():
    assert budget_vectors(TABLE, 0.01) == 12  # 1% of 10,000 parameters in vectors of 8
    assert budget_vectors(TABLE, 1) == TABLE.n_vectors
    hundred = make_table(d_model=1, parameters=100)
    for percent in range(3, 81):
        assert budget_vectors(hundred, percent / 100) == percent


@pytest.mark.parametrize("budget", [0, -0.1, 1.01, float("nan")])
def test_budget_outside_the_range(budget):
    with pytest.raises(BudgetError, match=r"\(0, 1\]"):
        budget_vectors(TABLE, budget)


def test_budget_smaller_than_any_component_says_what_would_do():
    with pytest.raises(BudgetError, match="at least 0.0024"):
        budget_vectors(TABLE, 0.002)
    assert budget_vectors(TABLE, 0.0024) == 3


def test_a_circuit_is_as_many_components_as_the_budget_buys():
    assert circuit_size(TABLE, TABLE.n_vectors) == len(TABLE)
    assert circuit_size(TABLE, TABLE.n_vectors // 2) == pytest.approx(len(TABLE) / 2, abs=1)
    assert circuit_size(TABLE, 0) == 1


@pytest.mark.parametrize("seed", range(5))
def test_components_are_tried_one_by_one(seed):
    """The same as going through them in order, in Python."""
    table = component_table(tiny("qwen2", num_hidden_layers=3), mlp_block=5)
    rng = np.random.default_rng(seed)
    scores, room = rng.random(len(table)), int(rng.integers(10, table.n_vectors))
    left, expected = room, set()
    for i in np.argsort(-scores).tolist():
        if table.vectors[i] <= left:
            expected.add(i)
            left -= int(table.vectors[i])
    assert set(select(scores, table, room).components) == expected


def test_turns_have_every_component_once():
    turns = rotation(TABLE, 12, seed=1)
    assert sorted(i for turn in turns for i in turn.components) == list(range(len(TABLE)))
    assert all(size(turn) <= 12 for turn in turns) and rotation(TABLE, 12, seed=1) == turns
