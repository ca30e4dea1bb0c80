"""Metrics of circuits and forecasts, against cases by hand and SciPy."""

import numpy as np
import pytest
from scipy.stats import spearmanr, wasserstein_distance

from foresight.common.errors import ConfigError, NonFiniteError
from foresight.trajectory.distances import circuit_distances, distance_groups, in_circuit
from foresight.trajectory.metrics import newcomer_recall, overlap, skill, spearman, top_k

RNG = np.random.default_rng(0)


def test_top_k_is_largest_first_with_ties_in_table_order():
    assert top_k(np.array([1, 3, 2, 3, 0]), 3).tolist() == [1, 3, 2]
    assert top_k(np.ones(5), 2).tolist() == [0, 1]


@pytest.mark.parametrize("k", [0, 6, -1])
def test_top_k_needs_a_k_that_exists(k):
    with pytest.raises(ConfigError, match=f"k is {k}"):
        top_k(np.ones(5), k)


def test_overlap_on_a_case_by_hand():
    a, b = np.array([5, 4, 3, 2, 1, 0]), np.array([5, 4, 0, 1, 3, 2])  # top 4: {0,1,2,3} and {0,1,4,5}
    assert overlap(a, b, 4) == 0.5 and overlap(a, a, 3) == 1 and overlap(a, -a, 3) == 0


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


def distance(a, b, k):
    """Group -> (Jaccard distance, Wasserstein distance) of two score arrays over LAYER and KIND."""
    return dict(
        zip(distance_groups(KIND), circuit_distances(a[None], b[None], k, LAYER, KIND)[0].tolist(), strict=True)
    )


def test_circuit_distance_of_a_circuit_to_itself_is_zero_whatever_its_scale_and_sign():
    a = RNG.normal(size=8)
    for jaccard, wasserstein in distance(a, -3 * a, 3).values():
        assert jaccard == 0 and wasserstein == pytest.approx(0, abs=1e-12)


def test_moving_all_score_from_the_first_to_the_last_layer():
    first, last = (LAYER == 0).astype(float), (LAYER == 3).astype(float)
    distances = distance(first, last, 2)
    assert set(distances) == {"all", "head", "mlp"}
    for jaccard, wasserstein in distances.values():
        assert jaccard == 1 and wasserstein == pytest.approx(3 / 4)


def test_circuit_distance_tells_kinds_apart():
    a = np.where(KIND == "mlp", 1.0, 5.0) + np.arange(8) / 100
    b = a.copy()
    b[KIND == "mlp"] = b[KIND == "mlp"][::-1]  # only the small MLP scores change places
    distances = distance(a, b, 4)
    assert [distances[group][0] for group in ("all", "head", "mlp")] == [0, 0, 0]
    assert distances["head"][1] == 0 < distances["mlp"][1]


def test_circuit_distance_is_symmetric_bounded_and_obeys_the_triangle_inequality():
    for _ in range(20):
        a, b, c = RNG.random((3, 8))
        ab, ba, bc, ac = (distance(*pair, 3) for pair in ((a, b), (b, a), (b, c), (a, c)))
        for kind, (jaccard, wasserstein) in ab.items():
            assert jaccard == ba[kind][0] and wasserstein == pytest.approx(ba[kind][1])
            assert 0 <= jaccard <= 1 and 0 <= wasserstein <= 3 / 4
            assert ac[kind][1] <= wasserstein + bc[kind][1] + 1e-12
            assert ac[kind][0] <= jaccard + bc[kind][0] + 1e-12


def test_zero_scores_count_as_uniform():
    assert distance(np.zeros(8), np.ones(8), 2)["all"] == [0, 0]


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
