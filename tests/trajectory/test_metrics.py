import numpy as np
import pytest
from scipy.stats import spearmanr, wasserstein_distance

from foresight.common.errors import CheckpointError, ConfigError, NonFiniteError
from foresight.trajectory.metrics import (
    circuit_distance,
    circuit_distances,
    distance_groups,
    in_circuit,
    jaccard,
    newcomer_recall,
    overlap,
    skill,
    spearman,
    top_k,
)
from foresight.trajectory.skill_log import Forecast, SkillLog

RNG = np.random.default_rng(0)


def test_top_k_is_largest_first_with_ties_in_table_order():
    assert top_k(np.array([1, 3, 2, 3, 0]), 3).tolist() == [1, 3, 2]
    assert top_k(np.ones(5), 2).tolist() == [0, 1]


@pytest.mark.parametrize("k", [0, 6, -1])
def test_top_k_needs_a_k_that_exists(k):
    with pytest.raises(ConfigError, match=f"k is {k}"):
        top_k(np.ones(5), k)


def test_overlap_and_jaccard_on_a_case_by_hand():
    a, b = np.array([5, 4, 3, 2, 1, 0]), np.array([5, 4, 0, 1, 3, 2])  # top 4: {0,1,2,3} and {0,1,4,5}
    assert overlap(a, b, 4) == 0.5 and jaccard(a, b, 4) == pytest.approx(2 / 6)
    assert overlap(a, a, 3) == jaccard(a, a, 3) == 1
    assert overlap(a, -a, 3) == jaccard(a, -a, 3) == 0


@pytest.mark.parametrize("k", [1, 7, 30])
def test_jaccard_agrees_with_sets(k):
    a, b = RNG.random(30), RNG.random(30)
    one, two = set(top_k(a, k)), set(top_k(b, k))
    assert jaccard(a, b, k) == pytest.approx(len(one & two) / len(one | two)) == jaccard(b, a, k)


def test_spearman_is_scipys_and_undefined_on_constants():
    a, b = RNG.random(30), RNG.random(30)
    assert spearman(a, b) == pytest.approx(spearmanr(a, b).statistic)
    assert spearman(a, np.exp(a)) == pytest.approx(1)
    assert np.isnan(spearman(a, np.ones(30)))


def test_skill_is_zero_for_persistence_one_for_perfect_negative_for_worse():
    now, then = RNG.random(20), RNG.random(20)
    assert skill(now, then, now) == 0 and skill(then, then, now) == 1
    assert skill(now + 2 * (now - then), then, now) == pytest.approx(-2)
    assert skill((now + then) / 2, then, now) == pytest.approx(0.5)


def test_skill_where_nothing_changes():
    x = np.ones(3)
    assert skill(x, x, x) == 0 and skill(x + 1, x, x) == float("-inf")


def test_newcomer_recall_counts_only_newcomers():
    today, actual = np.array([4, 3, 2, 1.0]), np.array([4, 0, 1, 3.0])  # top 2: {0,1}, then {0,3}: 3 is new
    assert newcomer_recall(actual, actual, today, 2) == 1
    assert newcomer_recall(today, actual, today, 2) == 0
    assert np.isnan(newcomer_recall(actual, today, today, 2))


def test_bad_arrays_are_refused():
    with pytest.raises(ConfigError, match="shapes"):
        skill(np.ones(3), np.ones(4), np.ones(3))
    with pytest.raises(ConfigError, match="shape"):
        top_k(np.ones((2, 2)), 1)
    with pytest.raises(NonFiniteError):
        overlap(np.array([1, np.nan]), np.ones(2), 1)


LAYER, KIND = np.repeat([0, 1, 2, 3], 2), np.array(["head", "mlp"] * 4)


def test_circuit_distance_of_a_circuit_to_itself_is_zero_whatever_its_scale_and_sign():
    a = RNG.normal(size=8)
    for distance in circuit_distance(a, -3 * a, 3, LAYER, KIND).values():
        assert distance.jaccard == 0 and distance.wasserstein == pytest.approx(0, abs=1e-12)


def test_moving_all_score_from_the_first_to_the_last_layer():
    first, last = (LAYER == 0).astype(float), (LAYER == 3).astype(float)
    distances = circuit_distance(first, last, 2, LAYER, KIND)
    assert set(distances) == {"all", "head", "mlp"}
    for distance in distances.values():
        assert distance.jaccard == 1 and distance.wasserstein == pytest.approx(3 / 4)


def test_circuit_distance_tells_kinds_apart():
    a = np.where(KIND == "mlp", 1.0, 5.0) + np.arange(8) / 100
    b = a.copy()
    b[KIND == "mlp"] = b[KIND == "mlp"][::-1]  # only the small MLP scores change places
    distances = circuit_distance(a, b, 4, LAYER, KIND)
    assert distances["all"].jaccard == distances["head"].jaccard == distances["mlp"].jaccard == 0
    assert distances["head"].wasserstein == 0 < distances["mlp"].wasserstein


def test_circuit_distance_is_symmetric_bounded_and_obeys_the_triangle_inequality():
    for _ in range(20):
        a, b, c = RNG.random((3, 8))
        ab, ba, bc, ac = (circuit_distance(*pair, 3, LAYER, KIND) for pair in ((a, b), (b, a), (b, c), (a, c)))
        for kind, d in ab.items():
            assert d.jaccard == ba[kind].jaccard and d.wasserstein == pytest.approx(ba[kind].wasserstein)
            assert 0 <= d.jaccard <= 1 and 0 <= d.wasserstein <= 3 / 4
            assert ac[kind].wasserstein <= d.wasserstein + bc[kind].wasserstein + 1e-12
            assert ac[kind].jaccard <= d.jaccard + bc[kind].jaccard + 1e-12


def test_zero_scores_count_as_uniform():
    distance = circuit_distance(np.zeros(8), np.ones(8), 2, LAYER, KIND)["all"]
    assert distance.wasserstein == 0 and distance.jaccard == 0


def test_circuit_distance_needs_metadata_of_every_component():
    with pytest.raises(ConfigError, match="8 scores, 7 layers"):
        circuit_distance(np.ones(8), np.ones(8), 2, LAYER[:7], KIND)


# SkillLog


def log_with_two():
    log = SkillLog(k=2)
    log.record(Forecast(10, 30, np.array([0, 1, 2, 3]), np.array([3, 2, 1, 0])))
    log.record(Forecast(20, 50, np.array([3, 2, 1, 0]), np.array([0, 1, 2, 3])))
    return log


def test_forecasts_are_judged_when_their_step_has_come():
    log = log_with_two()
    assert log.resolve(20, np.ones(4)) == [] and len(log.pending) == 2
    (outcome,) = log.resolve(35, np.array([0, 1, 2, 3]))
    assert (outcome.made_at, outcome.for_step, outcome.resolved_at) == (10, 30, 35)
    assert (outcome.skill, outcome.overlap, outcome.persistence_overlap) == (1, 1, 0)
    (outcome,) = log.resolve(50, np.array([0, 1, 2, 3]))
    assert (outcome.skill, outcome.overlap, outcome.persistence_overlap) == (float("-inf"), 0, 1)
    assert log.pending == [] and len(log.outcomes) == 2 and log.resolve(60, np.ones(4)) == []


def test_the_log_keeps_copies():
    prediction = np.ones(3)
    log = SkillLog(k=1)
    log.record(Forecast(0, 1, prediction, np.zeros(3)))
    prediction[:] = 9
    assert (log.pending[0].prediction == 1).all()


def test_skill_log_state_round_trip():
    import json

    log = log_with_two()
    log.resolve(30, np.array([0, 1, 2, 3]))
    log.outcomes.append(type(log.outcomes[0])(1, 2, 3, float("-inf"), 0.5, 1.0))
    arrays, data = log.state()
    again = SkillLog.from_state(arrays, json.loads(json.dumps(data, allow_nan=False)))
    assert again.outcomes == log.outcomes and again.k == 2
    assert again.resolve(99, np.ones(4)) == log.resolve(99, np.ones(4))


def test_damaged_skill_log_states_are_refused():
    arrays, data = log_with_two().state()
    bad = [
        ({}, data),
        ({**arrays, "extra": np.ones(2)}, data),
        ({**arrays, "0.prediction": np.ones(3)}, data),
        (arrays, {**data, "extra": 1}),
        (arrays, {k: v for k, v in data.items() if k != "outcomes"}),
        (arrays, {**data, "pending": [[1]]}),
        (arrays, {**data, "outcomes": [{"made_at": 1}]}),
    ]
    for case in bad:
        with pytest.raises(CheckpointError):
            SkillLog.from_state(*case)


def test_a_forecast_must_be_about_the_future_and_of_one_shape():
    with pytest.raises(ConfigError, match="step 5"):
        SkillLog(1).record(Forecast(5, 5, np.ones(2), np.ones(2)))
    with pytest.raises(ConfigError, match="shapes"):
        SkillLog(1).record(Forecast(5, 6, np.ones(2), np.ones(3)))


@pytest.mark.parametrize("empty", [False, True])
def test_many_pairs_at_once_are_as_one_after_the_other(empty):
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 5, 8))
    a[0] = np.round(a[0])  # ties
    if empty:
        a[1] = 0
        b[2, KIND[0] == KIND] = 0
    found = circuit_distances(a, b, 3, LAYER, KIND)
    depth, groups = LAYER / (LAYER.max() + 1), distance_groups(KIND)
    assert groups[0] == "all" and set(groups[1:]) == set(KIND)
    for pair, one, other in zip(found, np.abs(a), np.abs(b), strict=True):
        sets = [set(top_k(scores, 3).tolist()) for scores in (one, other)]
        for name, (moved, distance) in zip(groups, pair, strict=True):
            group = np.flatnonzero((name == KIND) | (name == "all"))
            mine, others = (s & set(group.tolist()) for s in sets)
            assert moved == (len(mine ^ others) / len(mine | others) if mine | others else 0)
            weights = [s[group] if s[group].any() else np.ones(len(group)) for s in (one, other)]
            assert distance == pytest.approx(wasserstein_distance(depth[group], depth[group], *weights), abs=1e-12)


def test_membership_agrees_with_the_top_k():
    scores = np.round(np.random.default_rng(0).normal(size=(4, 9)), 0)
    assert all(
        set(np.flatnonzero(row)) == set(top_k(s, 4)) for row, s in zip(in_circuit(scores, 4), scores, strict=True)
    )
