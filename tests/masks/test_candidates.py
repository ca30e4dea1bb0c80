"""Candidates chosen by hand: what they leave, what every policy takes of it, and what is refused."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from foresight.common.errors import BudgetError, CheckpointError, ConfigError
from foresight.masks.budget import budget_vectors
from foresight.masks.candidates import checked, restrict
from foresight.masks.masks import every_weight, everything
from foresight.masks.selection import rotation
from foresight.model.components import component_table
from foresight.model.vector_table import vector_table
from foresight.model.weight_table import weight_table
from foresight.policies.policy import View
from foresight.policies.single_weights import simple
from foresight.training.config import ForesightConfig
from foresight.training.plan import Plan
from foresight.trajectory.series import METADATA, Series
from support.policies import make_policy
from support.runs import delta, run, same, trainer
from support.tiny import FAMILIES, tiny

UP_TO = {"components": component_table, "vectors": vector_table, "weights": weight_table}


def left(candidates, make=component_table, family="mistral"):
    table = make(tiny(family))
    restrict(table, checked(candidates))
    return table


def modules(table):
    return {target.module.removeprefix("model.layers.") for target in table.candidates}


# -- the rules ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("candidates", "kinds", "layers"),
    [
        ({"target_modules": ["q_proj", "o_proj"]}, {"head"}, {0, 1}),
        ({"target_modules": ["self_attn.k_proj", "self_attn.v_proj"]}, {"kv"}, {0, 1}),
        ({"target_modules": r".*\.mlp\..*", "layers_to_transform": 1}, {"mlp"}, {1}),
        ({"target_modules": "all-linear", "exclude_modules": ["k_proj"]}, {"head", "mlp"}, {0, 1}),
        ({"exclude_modules": r".*\.0\.self_attn\.o_proj"}, {"head", "kv", "mlp"}, {0, 1}),
    ],
)  # fmt: skip
def test_a_component_is_a_candidate_if_all_its_modules_are_allowed(candidates, kinds, layers):
    table = left(candidates)
    names = {target.module for target in table.candidates}
    for i, component in enumerate(table):
        assert table.allowed[i] == all(piece.module in names for piece in component.slices)
    assert set(table.kind[table.allowed]) == kinds and set(table.layer[table.allowed]) == layers
    assert table.available == table.vectors[table.allowed].sum() < table.n_vectors
    assert everything(table).components == tuple(np.flatnonzero(table.allowed))


@pytest.mark.parametrize("family", FAMILIES)
def test_naming_all_is_no_restriction(family):
    for make in UP_TO.values():
        for candidates in ({"target_modules": "all-linear"}, {"layers_to_transform": [0, 1]}, {"target_modules": ".*"}):
            table, plain = left(candidates, make, family), make(tiny(family))
            assert not table.restricted and table.candidates == table.targets and table.available == plain.n_vectors
            assert table.hash == plain.hash and table.smallest == plain.smallest


def test_vectors_and_weights_follow_their_module():
    classic = {"target_modules": ["q_proj", "v_proj"]}
    vectors, weights = left(classic, vector_table), left(classic, weight_table)
    assert {name.split(".")[-2] for name in vectors.name[vectors.allowed]} == {"q_proj", "v_proj"}
    assert modules(weights) == {f"{layer}.self_attn.{leaf}_proj" for layer in (0, 1) for leaf in "qv"}
    inside = np.concatenate([np.arange(t.offset, t.offset + t.n) for t in weights.candidates])
    assert np.array_equal(every_weight(weights).components, inside) and weights.available == len(inside)


@pytest.mark.parametrize(
    ("candidates", "words"),
    [
        ({"target_modules": ["qproj"]}, r"'qproj' names no Linear .*did you mean 'q_proj'.*k_proj"),
        ({"target_modules": ["lm_head"]}, "the head are never trained"),
        ({"target_modules": "q_proj"}, r"regular expression for whole names.* a list is written \[q_proj\]"),
        ({"target_modules": ".*(mlp"}, "is no regular expression"),
        ({"exclude_modules": ["mlp.dwn_proj"]}, r"did you mean 'mlp.down_proj'"),
        ({"target_modules": ["q_proj", "v_proj"]}, "'q_proj' .*consist of q_proj, o_proj together.*'vectors'"),
        ({"target_modules": ["q_proj", "o_proj", "v_proj"]}, "'v_proj' .*consist of k_proj, v_proj together"),
        ({"target_modules": "all-linear", "exclude_modules": ".*"}, "nothing of 'all-linear'"),
        ({"layers_to_transform": [0, 2]}, "layers_to_transform has 2; the model has layers 0 to 1"),
        ({"layers_to_transform": -1}, "has -1"),
        ({"layers_to_transform": []}, r"is \[\]; expected a layer"),
        ({"layers_to_transform": True}, "expected a layer"),
        ({"layers_to_transform": "0"}, "expected a layer"),
        ({"target_modules": []}, "expected a list of module names"),
        ({"target_modules": ["q_proj", 3]}, "expected a list of module names"),
        ({"target_module": ["q_proj"]}, "has no 'target_module' .did you mean 'target_modules'"),
        (["q_proj"], "candidates is .*expected a mapping"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused(candidates, words):
    with pytest.raises(ConfigError, match=words):
        left(candidates)


def test_nothing_given_is_nothing_restricted():
    assert checked(None) is checked({}) is checked({"target_modules": None}) is None
    assert checked('{"layers_to_transform": 1}') == {"layers_to_transform": 1}


def test_a_module_of_which_nothing_is_left_is_named_with_single_vectors_too():
    with pytest.raises(ConfigError, match="'k_proj' .*all of it is excluded, or in other layers"):
        left({"target_modules": ["k_proj", "q_proj"], "exclude_modules": ["k_proj"]}, vector_table)


def test_a_budget_beyond_the_candidates_is_refused_with_the_most_there_is():
    for make in UP_TO.values():
        table = left({"target_modules": ["gate_proj", "up_proj", "down_proj"], "layers_to_transform": 0}, make)
        with pytest.raises(BudgetError, match="the candidates have") as caught:
            budget_vectors(table, 0.9)
        most = float(str(caught.value).split("lower the budget to ")[1].split(",")[0])
        assert 0.99 * table.available < budget_vectors(table, most) <= table.available


# -- every policy ---------------------------------------------------------------------------------------------------


def series_of(table, steps=6):
    values = np.random.default_rng(0).random((len(table), steps)).astype(np.float32) + 1
    return Series(values=values, steps=np.arange(steps), **{field: getattr(table, field) for field in METADATA})


@pytest.mark.parametrize("make", [component_table, vector_table])
@pytest.mark.parametrize("policy", "full static random layer prior reactive foresight oracle oracle_ahead".split())
def test_a_policy_takes_candidates_only(policy, make):
    table = left({"exclude_modules": ["down_proj"], "layers_to_transform": 1}, make, "llama")
    series, n = series_of(table), table.available * 2 // 3
    params = {"by": "layer"} if policy == "layer" else {}
    params |= {"oracle_trajectory": series} if policy.startswith("oracle") else {}
    made = make_policy("random" if policy == "layer" else policy, table=table, **params)
    for share in (None, 0.5):
        mask = made.mask(View(table, n, 4, 10, series, seed=1, horizon=2, head_share=share))
        assert table.allowed[list(mask.components)].all()
        room = n - table.vectors[list(mask.components)].sum()
        assert policy == "full" or 0 <= room < table.vectors[table.allowed].max()
    for turn in rotation(table, n, 0):
        assert table.allowed[list(turn.components)].all()


def test_directly_drawn_weights_are_candidates(monkeypatch):
    monkeypatch.setattr(simple, "NUMBERED", 0)
    table = left({"target_modules": ["v_proj", "down_proj"]}, weight_table)
    view = SimpleNamespace(bank=SimpleNamespace(table=table), seed=5, step=0)
    for n in (1, 500, table.available):
        view.n_vectors = n
        ids = simple.RandomWeights()._choose(view).components
        assert len(ids) == n and (np.diff(ids) > 0).all() and np.isin(ids, every_weight(table).components).all()


# -- runs -----------------------------------------------------------------------------------------------------------

KINDS = [("components", "random"), ("vectors", "foresight"), ("weights", "static"), ("weights", "foresight")]


@pytest.mark.parametrize(("granularity", "policy"), KINDS)
def test_candidates_that_name_all_change_no_bit(tmp_path, granularity, policy):
    settings = dict(granularity=granularity, policy=policy, contrast=False, max_steps=6)
    plain = run(tmp_path / "plain", **settings)
    named = run(tmp_path / "named", candidates={"target_modules": "all-linear"}, **settings)
    assert plain.schedule == named.schedule and same(delta(tmp_path / "plain"), delta(tmp_path / "named"))


@pytest.mark.parametrize(("granularity", "policy"), [*KINDS, ("components", "full"), ("vectors", "full")])
def test_a_run_changes_candidates_only(tmp_path, granularity, policy):
    settings = dict(granularity=granularity, policy=policy, contrast=False, max_steps=6)
    settings |= dict(candidates={"exclude_modules": ["gate_proj"], "layers_to_transform": 1})
    done = run(tmp_path, **settings, **({} if policy == "full" else {"budget": 0.1}))
    before, after = tiny().state_dict(), done.bank.merged_state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    allowed = {f"{target.module}.weight" for target in done.run.numbers.candidates}
    attention = {name for name in allowed if "self_attn" in name}
    assert attention <= changed <= (attention if granularity == "components" else allowed)
    if policy == "full":
        assert done.run.n_vectors == len(done.bank.ids) == done.run.numbers.available


def test_other_candidates_are_another_run(tmp_path):
    settings = dict(policy="random", contrast=False, max_steps=4, save_strategy="steps", save_steps=2)
    run(tmp_path, candidates={"layers_to_transform": 1}, **settings)
    with pytest.raises(CheckpointError, match="candidates was .*1.* and is .*0"):
        trainer(tmp_path, candidates={"layers_to_transform": 0}, **settings).train(resume_from_checkpoint=True)


def test_a_plan_counts_candidates(tmp_path):
    known = dict(policy="full", candidates={"layers_to_transform": [1]})
    half, whole = (Plan(tiny(), ForesightConfig(str(tmp_path), **given), None) for given in (known, {"policy": "full"}))
    assert 2 * half.bank_vectors == whole.bank_vectors
