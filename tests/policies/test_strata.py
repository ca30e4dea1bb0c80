"""Masks stratified by kind: each kind has its share, and no vector of the budget is left that a component could use."""

import numpy as np
import pytest

from foresight.common.errors import BudgetError
from foresight.masks.masks import everything
from foresight.masks.selection import head_share_of, select
from foresight.policies.catalogue import POLICIES, policy_class
from foresight.policies.policy import View
from support.planted import make_table, random_walk, series_of
from support.policies import make_policy

TABLE = make_table(layers=3, heads=4, blocks=5)  # heads of 4 vectors, MLP blocks of 3; 48 and 45 vectors
RANKING = [name for name in POLICIES if name != "movement" and policy_class(name, "components").ranks]
SHARES = (0, 0.1, 0.25, 0.5, 0.8, 1)


def size(mask):
    return int(TABLE.vectors[list(mask.components)].sum())


def heads_of(mask):
    return [i for i in mask.components if TABLE.kind[i] == "head"]


@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("n", [3, 7, 12, 40, 60, 92, 93, 500])
def test_the_whole_budget_is_used(share, n):
    for seed in range(10):
        mask = select(np.random.default_rng(seed).random(len(TABLE)), TABLE, n, share)
        outside = set(range(len(TABLE))) - set(mask.components)
        assert size(mask) <= n and all(TABLE.vectors[i] > n - size(mask) for i in outside)


@pytest.mark.parametrize("share", SHARES)
def test_each_kind_has_its_share_whatever_the_scores(share):
    favoured = np.where(TABLE.kind == "head", 10.0, 0.0) + np.random.default_rng(0).random(len(TABLE))
    for scores in (favoured, -favoured):
        assert head_share_of(select(scores, TABLE, 40, share), TABLE) == pytest.approx(share, abs=0.11)


def test_within_a_kind_the_best_come_first():
    scores = np.random.default_rng(1).random(len(TABLE))
    mask = select(scores, TABLE, 24, 0.5)  # three heads and four blocks, exactly
    for kind, count in (("head", 3), ("mlp", 4)):
        members = np.flatnonzero(TABLE.kind == kind)
        best = set(members[np.argsort(-scores[members])][:count].tolist())
        assert best == set(mask.components) & set(members.tolist())


def test_a_kind_that_cannot_fill_its_share_gives_the_rest_back():
    scores = np.random.default_rng(2).random(len(TABLE))
    mask = select(scores, TABLE, 60, 1.0)
    assert len(heads_of(mask)) == 12 and size(mask) == 60  # all 48 vectors of heads, then four blocks
    mask = select(scores, TABLE, 60, 0.0)
    assert size(mask) >= 57 and len(heads_of(mask)) == 3  # 45 vectors of blocks, then three heads
    assert select(scores, TABLE, TABLE.n_vectors, 0.3) == everything(TABLE)
    only_heads = make_table(layers=2, heads=4, blocks=0)
    assert len(select(np.ones(len(only_heads)), only_heads, 16, 0.0)) == 4


def test_no_share_ranks_all_in_one_list_and_too_small_a_budget_is_refused():
    scores = np.random.default_rng(3).random(len(TABLE))
    assert select(scores, TABLE, 30) == select(scores, TABLE, 30, None)
    with pytest.raises(BudgetError, match="2 vectors"):
        select(scores, TABLE, 2, 0.5)
    assert len(select(scores, TABLE, 3, 1.0)) == 1  # no head fits, but a block does


@pytest.mark.parametrize("name", RANKING)
def test_every_policy_that_ranks_has_the_share(name):
    run = series_of(TABLE, random_walk(len(TABLE), 6, size=0.5))
    policy = make_policy(name, table=TABLE, **({"oracle_trajectory": run} if name.startswith("oracle") else {}))
    if policy.scouts:
        policy.scouted = np.arange(len(TABLE), dtype=float)
    for share in (0.0, 1.0):
        mask = policy.mask(View(TABLE, 36, 50, 100, run, horizon=20, damage=run.values - 1, head_share=share))
        assert head_share_of(mask, TABLE) == share
