"""Masks that trade score for cheaper steps: bounds, budget, limits, and what the backward pass then leaves alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from foresight.bank import Bank
from foresight.common.errors import BudgetError, ConfigError
from foresight.masks.costs import StepCosts
from foresight.masks.selection import Limit, select
from foresight.model.components import component_table
from foresight.policies.policy import View
from foresight.training.config import ForesightConfig
from support.policies import make_policy
from support.tiny import FAMILIES, tiny, tokens


@pytest.fixture(scope="module")
def table():
    return component_table(tiny("qwen2", num_hidden_layers=6))


def random_scores(table, seed):
    return np.exp(np.random.default_rng(seed).normal(size=len(table)))


def lowest(mask, table):
    return min((table.layer[i], table.kind[i] == "mlp") for i in mask.components)


@pytest.mark.parametrize("head_share", [None, 0.0, 0.4])
@pytest.mark.parametrize("seed", range(4))
def test_no_more_than_the_share_is_lost_and_the_budget_is_kept(table, seed, head_share):
    scores, n = random_scores(table, seed), table.n_vectors // 8
    best = select(scores, table, n, head_share)
    before = lowest(best, table)
    for given_up in (0.05, 0.2, 0.5, 0.9):
        mask = select(scores, table, n, head_share, given_up)
        assert scores[list(mask.components)].sum() >= (1 - given_up) * scores[list(best.components)].sum()
        assert 0 < table.vectors[list(mask.components)].sum() <= n
        assert lowest(mask, table) >= before
        before = lowest(mask, table)
    assert before > lowest(best, table)  # nine tenths of the score buy something


def test_nothing_given_up_is_the_plain_mask(table):
    scores = random_scores(table, 0)
    assert select(scores, table, 100, cost_aware=0.0) == select(scores, table, 100)
    # so little that any other mask loses more
    assert select(scores, table, 100, cost_aware=1e-12) == select(scores, table, 100)


def test_equal_scores_go_to_the_top(table):
    n = int(table.vectors[table.layer == 5].sum())
    mask = select(np.ones(len(table)), table, n, cost_aware=0.3)
    assert lowest(select(np.ones(len(table)), table, n), table)[0] == 0
    assert lowest(mask, table)[0] >= 4


def test_score_that_lies_low_stays_low(table):
    """All of it is in the first layer: nothing above could keep enough."""
    scores = np.where(table.layer == 0, 1.0, 1e-6)
    mask = select(scores, table, 60, cost_aware=0.5)
    assert {int(table.layer[i]) for i in mask.components} == {0}


@pytest.mark.parametrize("scores", [-1.0, 0.0, np.inf])
def test_scores_without_a_share_are_ranked_as_ever(table, scores):
    values = np.full(len(table), scores)
    assert select(values, table, 100, cost_aware=0.5) == select(values, table, 100)


def test_a_policy_that_ranks_follows_the_view(table):
    plain = View(table, 100, 0, 10, seed=3)
    cheap = View(table, 100, 0, 10, seed=3, cost_aware=0.5)
    policy = make_policy("random", table=table)
    assert lowest(policy.mask(cheap), table) > lowest(policy.mask(plain), table)


# -- limits -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def costs(table):
    return StepCosts(tiny("qwen2", num_hidden_layers=6), table, 64)


def limit(costs, what, most):
    return Limit(what, most, getattr(costs, what))


def scored(mask, scores):
    return scores[list(mask.components)].sum()


@pytest.mark.parametrize("what", ["share", "activations"])
@pytest.mark.parametrize("head_share", [None, 0.4])
@pytest.mark.parametrize("seed", range(4))
def test_a_mask_keeps_its_limit_and_a_looser_one_never_scores_worse(table, costs, what, head_share, seed):
    scores, n = random_scores(table, seed), table.n_vectors // 8
    plain = select(scores, table, n, head_share)
    cost = getattr(costs, what)
    dearest, before, kept = cost(np.array(plain.components)), 0.0, 0
    for part in np.linspace(0.3, 1.2, 19):
        try:
            mask = select(scores, table, n, head_share, limits=[limit(costs, what, part * dearest)])
        except BudgetError:
            assert not kept  # once something fits, it does under every looser limit
            continue
        kept += 1
        assert cost(np.array(mask.components)) <= part * dearest
        assert 0 < table.vectors[list(mask.components)].sum() <= n
        assert min(scored(mask, scores), scored(plain, scores)) >= before
        before = min(scored(mask, scores), scored(plain, scores))
        assert part < 1 or mask == plain
    assert kept > 7


@pytest.mark.parametrize("seed", range(4))
def test_no_other_depth_has_more_score_within_the_limit(table, costs, seed):
    scores, n = random_scores(table, seed), table.n_vectors // 8
    most = limit(costs, "share", 0.5)
    chosen = select(scores, table, n, limits=[most])
    for layer in range(6):
        for half in (0, 1):
            allowed = 2 * table.layer + (table.kind == "mlp") >= 2 * layer + half
            other = select(np.where(allowed, scores, -1), table, n)
            other = np.array([i for i in other.components if allowed[i]])
            if most.allows(other):
                assert scores[other].sum() <= max(scored(chosen, scores), scored(select(scores, table, n), scores))
                assert scores[other].sum() <= scored(chosen, scores) * (1 + 1e-12)


def test_limits_are_kept_together_and_cost_awareness_goes_on_from_there(table, costs):
    scores, n = random_scores(table, 1), table.n_vectors // 8
    limits = [limit(costs, "share", 0.55), limit(costs, "activations", 1000)]
    both = select(scores, table, n, limits=limits)
    aware = select(scores, table, n, cost_aware=0.3, limits=limits)
    for mask in (both, aware):
        assert all(one.allows(np.array(mask.components)) for one in limits)
    assert scored(aware, scores) >= 0.7 * scored(both, scores) and lowest(aware, table) > lowest(both, table)
    assert lowest(both, table) == max(lowest(select(scores, table, n, limits=[one]), table) for one in limits)


@pytest.mark.parametrize("value", [-1.0, 0.0, np.inf])
def test_scores_without_a_sum_keep_limits_at_the_lowest_depth(table, costs, value):
    most = limit(costs, "share", 0.5)
    mask = select(np.full(len(table), value), table, 100, limits=[most])
    assert most.allows(np.array(mask.components))
    assert lowest(mask, table) < lowest(select(np.arange(len(table)), table, 100), table)


def test_what_nothing_fits_into_names_the_cheapest_mask(table, costs):
    with pytest.raises(BudgetError, match=r"share is 0.1, and the cheapest mask takes 0.3\d+: raise share, or lower"):
        select(np.ones(len(table)), table, 100, limits=[limit(costs, "share", 0.1)])
    apart = [Limit("up", 3, lambda c: 2 if table.layer[c].min() else 9),
             Limit("down", 3, lambda c: 9 if table.layer[c].min() else 2)]  # fmt: skip
    with pytest.raises(BudgetError, match="no mask keeps all of them: raise up or down"):
        select(np.ones(len(table)), table, 100, limits=apart)


@pytest.mark.parametrize("family", FAMILIES)
def test_backward_ends_at_the_lowest_trained_layer(family):
    """Below it no activation is part of the graph, so none is kept and nothing is computed."""
    model = tiny(family, **({"n_layer": 4} if family == "gpt2" else {"num_hidden_layers": 4}))
    table = component_table(model)
    bank = Bank(model, table, table.n_vectors // 10)
    mask = select(random_scores(table, 1), table, bank.n_vectors, cost_aware=0.6)
    first = lowest(mask, table)[0]
    assert first > 0
    bank.remask(mask)
    recorded = {}
    for target in table.targets:
        module, layer = (
            model.get_submodule(target.module),
            int(next(p for p in target.module.split(".") if p.isdigit())),
        )
        module.register_forward_hook(
            lambda m, a, output, layer=layer: recorded.setdefault(layer, []).append(output.grad_fn is not None)
        )
    saved = []
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}

    def pack(tensor):
        if tensor.untyped_storage().data_ptr() not in own:
            saved.append(max(recorded, default=-1))  # the layer that has just begun: its first Linear was the last seen
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = model(input_ids=tokens(), labels=tokens()).loss
    loss.backward()
    assert not any(flag for layer in range(first) for flag in recorded[layer])
    assert any(recorded[first]) and min(saved) >= first - 1
    assert bank.vectors.grad[: len(bank.ids)].abs().sum(1).gt(0).any()


@pytest.mark.parametrize("value", [-0.1, 1.0, 2.0])
def test_a_share_out_of_range_is_refused(tmp_path, value):
    with pytest.raises(ConfigError, match="limits.cost_aware is .* above 0, at most 0.99"):
        ForesightConfig(str(tmp_path), policy="static", limits={"cost_aware": value})


def test_a_policy_that_watches_all_components_may_give_up_score(tmp_path):
    settings = ForesightConfig(str(tmp_path), policy_params={"watch": "rotate"}, limits={"cost_aware": 0.1})
    assert settings.limits == {"cost_aware": 0.1}


@pytest.mark.parametrize("settings", [{"policy": "full"}, {"policy": "replay"}, {"granularity": "weights"}])
def test_policies_that_rank_no_components_refuse_it(tmp_path, settings):
    with pytest.raises(ConfigError, match=r"limits is {'cost_aware': 0.1}, but"):
        ForesightConfig(str(tmp_path), limits={"cost_aware": 0.1}, **{"policy": "static", **settings})
