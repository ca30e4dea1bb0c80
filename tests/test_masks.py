import json

import numpy as np
import pytest

from foresight.errors import BudgetError, ConfigError, NonFiniteError
from foresight.masks import Mask, MaskSchedule, budget_vectors, churn, circuit_size, everything, select, touched
from planted import make_table

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


def test_masks_are_sets():
    assert Mask.of([3, 1, 3]) == Mask.of(np.array([1, 3])) == Mask((1, 3))
    assert Mask.of([1, 3]).hash == Mask.of([3, 1]).hash != Mask.of([1, 2]).hash
    assert len(everything(TABLE)) == len(TABLE)
    assert Mask.from_names(Mask.of([0, 9]).names(TABLE), TABLE) == Mask.of([0, 9])


@pytest.mark.parametrize("name", ["L0.head.9", 3, None, ["L0.head.1"]])
def test_names_that_do_not_exist(name):
    with pytest.raises(ConfigError, match="does not exist"):
        Mask.from_names([name], TABLE)


def test_churn():
    assert churn(Mask.of([1, 2]), Mask.of([2, 3])) == 0.5
    assert churn(Mask.of([1, 2]), Mask.of([1, 2])) == 0 and churn(Mask(()), Mask.of([1])) == 1


def schedule():
    made = MaskSchedule()
    made.append(0, Mask.of([0, 1]))
    made.append(20, Mask.of([2]))
    return made


def test_a_schedule_holds_a_mask_until_the_next_entry():
    assert [schedule().at(step).components for step in (0, 19, 20, 1000)] == [(0, 1), (0, 1), (2,), (2,)]
    late = MaskSchedule()
    late.append(5, Mask.of([0]))
    with pytest.raises(ConfigError, match="no entry at or before step 4"):
        late.at(4)
    with pytest.raises(ConfigError, match="does not follow"):
        late.append(5, Mask.of([1]))
    with pytest.raises(ConfigError, match="empty"):
        late.append(6, Mask(()))


def test_a_schedule_survives_its_file(tmp_path):
    path = tmp_path / "schedule.json"
    path.write_text(json.dumps(schedule().to_json(TABLE)))
    assert MaskSchedule.read(path, TABLE).entries == schedule().entries


def test_schedules_of_other_models_and_other_things_are_refused(tmp_path):
    good = schedule().to_json(TABLE)
    with pytest.raises(ConfigError, match="component table"):
        MaskSchedule.from_json(good, make_table(blocks=6))
    bad = [
        [],
        {},
        {**good, "version": 2},
        {**good, "entries": [{"step": 0}]},
        {**good, "entries": [{"step": "x", "components": []}]},
        {**good, "entries": [{"step": 0, "components": []}]},
        {**good, "entries": [{"step": 0, "components": ["nope"]}]},
        {**good, "entries": good["entries"][::-1]},
    ]
    for data in bad:
        with pytest.raises(ConfigError):
            MaskSchedule.from_json(data, TABLE)
    (tmp_path / "torn.json").write_text(json.dumps(good)[:-3])
    for name in ("torn.json", "absent.json"):
        with pytest.raises(ConfigError, match=name):
            MaskSchedule.read(tmp_path / name, TABLE)


def test_a_circuit_is_as_many_components_as_the_budget_buys():
    assert circuit_size(TABLE, TABLE.n_vectors) == len(TABLE)
    assert circuit_size(TABLE, TABLE.n_vectors // 2) == pytest.approx(len(TABLE) / 2, abs=1)
    assert circuit_size(TABLE, 0) == 1


def test_what_a_schedule_touches_is_counted_once():
    made = MaskSchedule()
    assert touched(made, TABLE) == 0
    for step, components in ((0, [0, 1]), (10, [1, 2]), (20, [0])):
        made.append(step, Mask.of(components))
    assert touched(made, TABLE) == TABLE.vectors[[0, 1, 2]].sum()
    made.append(30, everything(TABLE))
    assert touched(made, TABLE) == TABLE.n_vectors


@pytest.mark.parametrize("seed", range(5))
def test_a_budget_from_what_was_touched_buys_just_that(seed):
    rng, made = np.random.default_rng(seed), MaskSchedule()
    for step in range(0, 50, 10):
        made.append(step, select(rng.random(len(TABLE)), TABLE, 9))
    n = touched(made, TABLE)
    assert budget_vectors(TABLE, n * TABLE.d_model / TABLE.model_parameters) == n
