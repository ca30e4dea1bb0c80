"""Edge scores agree with EAP-IG's, are derivatives along single edges, and add up to component scores."""

import importlib.util
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from foresight.bank import Bank
from foresight.common.errors import ConfigError, DataError, NonFiniteError
from foresight.masks.budget import budget_vectors
from foresight.masks.selection import select
from foresight.model.components import component_table
from foresight.scoring import make_scorer
from foresight.scoring.edge_graph import NORMS, ROLES
from foresight.scoring.edges import edge_scores
from foresight.scoring.probes import Batch, ContrastProbe
from support.one_edge import OneEdge
from support.scoring_cases import pair_batch, pair_probe, text_probe
from support.tiny import FAMILIES, tiny

ALL = 10**6
DATA = Path(__file__).parent / "data"
REFERENCE = json.loads((DATA / "eap_reference.json").read_text())


def scores_of(edges):
    """(source, destination, role) names -> score."""
    rows = zip(edges.pairs, edges.role, edges.score, strict=True)
    return {(*pair, str(role)): float(score) for pair, role, score in rows}


def every(model, probe=None, table=None, **settings):
    table = table or component_table(model)
    return scores_of(edge_scores(model, table, probe or pair_probe(), top=ALL, **settings))


def outgoing(scores):
    """Source -> sum of its edges."""
    totals = {}
    for (source, _, _), score in scores.items():
        totals[source] = totals.get(source, 0.0) + score
    return totals


def attribution(model, table, probe):
    """Component -> its score."""
    scores = make_scorer("attribution").score(model, table, probe)
    return dict(zip(table.name, scores.values, strict=True))


def swapped(probe):
    """The probe with clean and corrupted prompts swapped."""
    return ContrastProbe(replace(b, input_ids=b.corrupted_ids, corrupted_ids=b.input_ids) for b in probe.batches)


def assert_close(found, expected, rtol):
    """Equal keys, and values that differ by at most `rtol` of the largest."""
    assert found.keys() == expected.keys()
    a, b = (np.array([d[key] for key in expected]) for d in (found, expected))
    np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol * np.abs(b).max())


# -- the reference ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def recipe():
    """The script that made the reference; it makes the same models here."""
    spec = importlib.util.spec_from_file_location("make_eap_reference", DATA / "make_eap_reference.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def reference_probe():
    given = {name: torch.tensor(rows) for name, rows in REFERENCE["inputs"].items()}
    targets = torch.full_like(given["clean"], -100)
    targets[:, -1] = given["answer"]
    ones = torch.ones_like(given["clean"])
    return ContrastProbe([Batch(given["clean"], ones, targets, given["corrupted"], given["wrong"])])


@pytest.mark.parametrize("family", REFERENCE["families"])
def test_edges_and_heads_agree_with_eap_ig(recipe, reference_probe, family):
    expected, model = REFERENCE["families"][family], recipe.seeded_model(family)
    batch = reference_probe.batches[0]
    with torch.no_grad():
        logits = model(batch.input_ids).logits[:, -1]
    rows = torch.arange(len(batch))
    difference = logits[rows, batch.targets[:, -1]] - logits[rows, batch.wrong]
    np.testing.assert_allclose(difference, expected["logit_difference"], rtol=1e-4, atol=1e-4)

    def column(name):
        at = REFERENCE["edge_columns"].index(name)
        return {tuple(row[:3]): row[at] for row in expected["edges"]}

    assert expected["config"] == recipe.CONFIGS[family]
    assert REFERENCE["inputs"] == recipe.inputs()
    plain = every(model, reference_probe)
    integrated = every(model, reference_probe, ig_steps=REFERENCE["steps"])
    other_way = every(model, swapped(reference_probe), ig_steps=REFERENCE["steps"])
    assert_close(plain, column("eap"), 1e-5)
    assert_close(integrated, column("eap_ig"), 1e-5)
    # from the corrupted end on: the same line walked the other way
    assert_close({edge: -score for edge, score in other_way.items()}, column("eap_ig_from_zero"), 1e-5)

    for mine, at in ((plain, 1), (integrated, 2)):
        heads = {row[0]: row[at] for row in expected["heads"]}
        totals = outgoing(mine)
        assert_close({name: totals[name] for name in heads}, heads, 1e-5)


# -- single edges -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_a_score_is_the_drop_along_its_edge_alone(family):
    model, batch = tiny(family, initializer_range=0.1), pair_batch((8, 7, 8))
    scores = every(model, ContrastProbe([batch]))
    largest = max(map(abs, scores.values()))
    exact = OneEdge(model, batch)
    for role in ROLES:
        of_role = sorted((e for e in scores if e[2] == role), key=lambda e: -abs(scores[e]))
        picks = of_role[:2] + [next(e for e in of_role if kind in e[0]) for kind in ("input", "head", "mlp")]
        for edge in picks:
            drop = exact.drop(edge)
            assert drop == pytest.approx(scores[edge], rel=1e-3, abs=1e-4 * largest), edge
        assert abs(scores[of_role[0]]) > 1e-3 * largest


# -- sums -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_a_sources_edges_add_up_to_its_attribution(family):
    model, probe = tiny(family), pair_probe((9, 7, 8, 9), batch_size=2)
    table = component_table(model, mlp_block=20)
    expected: dict[str, float] = {}
    for name, score in attribution(model, table, probe).items():
        source = name.rpartition(".")[0] if ".mlp." in name else name  # the blocks of an MLP are one source
        expected[source] = expected.get(source, 0.0) + score
    found = outgoing(every(model, probe, table))
    sources = {c.name.rpartition(".")[0] if c.kind == "mlp" else c.name for c in table if c.kind != "kv"}
    assert found.keys() == {"input", *sources}
    assert_close({n: found[n] for n in sources}, {n: expected[n] for n in sources}, 1e-5)


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2"])
def test_integrated_edges_of_the_input_add_up_to_the_whole_drop(family):
    """Completeness of integrated gradients; both ends of the line weigh half in the mean of both ways."""
    model, batch = tiny(family, initializer_range=0.05), pair_batch((8, 8))
    exact = OneEdge(tiny(family, initializer_range=0.05), batch)
    probe = ContrastProbe([batch])
    forth, back = (outgoing(every(model, p, ig_steps=24))["input"] for p in (probe, swapped(probe)))
    drop = exact.run(batch.input_ids) - exact.run(batch.corrupted_ids)
    one_point = outgoing(every(model, probe))["input"]
    assert (forth - back) / 2 == pytest.approx(drop, rel=0.01)
    assert abs(one_point - drop) > 0.05 * abs(drop)


# -- the graph --------------------------------------------------------------------------------------------------------


def test_every_family_has_its_norms():
    assert set(NORMS) == set(FAMILIES)


def test_nodes_and_edges_of_a_small_model():
    model = tiny("mistral")  # 2 layers of 4 heads in 2 KV groups
    table = component_table(model)
    edges = edge_scores(model, table, pair_probe(), top=ALL)
    assert edges.names[0] == "input" and edges.names[-1] == "logits"
    assert set(edges.names) == {"input", "L0.mlp", "L1.mlp", "logits", *table.name[table.kind != "mlp"]}
    assert len(edges) == (1 * 8 + 5) + (6 * 8 + 10) + 11
    assert edges.source.dtype == edges.destination.dtype == np.int32 and edges.score.dtype == np.float32
    found = scores_of(edges)
    assert len(found) == len(edges)
    roles = {kind: {r for _, b, r in found if f".{kind}" in b} for kind in ("head", "kv", "mlp")}
    assert roles == {"head": {"q"}, "kv": {"k", "v"}, "mlp": {"mlp"}}
    assert {a for a, b, _ in found if b == "L1.kv.0"} == {"input", "L0.mlp", *(f"L0.head.{h}" for h in range(4))}
    assert {r for _, b, r in found if b == "logits"} == {"logits"}


@pytest.mark.parametrize("parallel", [True, False])
def test_heads_reach_the_mlp_of_their_layer_unless_it_runs_in_parallel(parallel):
    model = tiny("gpt_neox", use_parallel_residual=parallel)
    found = every(model)
    assert (("L0.head.1", "L0.mlp", "mlp") in found) == (not parallel)
    table = component_table(model)
    expected = attribution(model, table, pair_probe())
    heads = table.name[table.kind == "head"]
    assert_close({n: outgoing(found)[n] for n in heads}, {n: expected[n] for n in heads}, 1e-5)


def test_the_strongest_edges_are_kept_in_order():
    model = tiny("llama")
    table = component_table(model)
    whole = edge_scores(model, table, pair_probe(), top=ALL)
    best = edge_scores(model, table, pair_probe(), top=7)
    assert (np.diff(np.abs(whole.score)) <= 0).all() and (whole.score < 0).any()
    assert len(best) == 7
    for column in ("source", "destination", "role", "score"):
        np.testing.assert_array_equal(getattr(best, column), getattr(whole, column)[:7])


# -- around it --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [{}, {"ig_steps": 3}])
def test_scores_do_not_depend_on_batching_or_padding(settings):
    model = tiny("qwen2")
    one, all_at_once = (every(model, pair_probe((9, 6, 8, 7), batch_size=n), **settings) for n in (1, 4))
    assert max(map(abs, one.values())) > 1e-3
    assert_close(one, all_at_once, 1e-4)


def test_a_model_with_a_bank_is_scored_at_the_weights_in_effect():
    model, merged = tiny("gpt2"), tiny("gpt2")
    table = component_table(model)
    before = every(merged)
    bank = Bank(model, table, budget_vectors(table, 0.3))
    bank.remask(select(np.random.default_rng(0).random(len(table)), table, len(bank.vectors)))
    torch.manual_seed(0)
    bank.vectors.data.normal_(0, 0.1)
    merged.load_state_dict(bank.merged_state_dict())
    expected = every(merged)
    assert_close(every(model, weights=bank.weights), expected, 1e-5)
    assert max(abs(before[edge] - expected[edge]) for edge in before) > 0.1 * max(map(abs, before.values()))


@pytest.mark.parametrize("reentrant", [True, False])
def test_a_model_in_training_is_left_as_it_was(reentrant):
    model = tiny("llama", attention_dropout=0.5)
    expected = every(model)
    model.requires_grad_(False).train()
    model.gradient_checkpointing_enable({"use_reentrant": reentrant})
    hooks = sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())
    assert_close(every(model, ig_steps=1), expected, 1e-6)
    assert all(m.training for m in model.modules())
    assert all(p.grad is None and not p.requires_grad for p in model.parameters())
    assert hooks == sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2"])
def test_bf16_finds_the_same_edges(family):
    exact = every(tiny(family, initializer_range=0.1), ig_steps=2)
    rough = every(tiny(family, initializer_range=0.1, dtype=torch.bfloat16), ig_steps=2)
    a, b = (np.array([d[edge] for edge in exact]) for d in (exact, rough))
    assert np.corrcoef(a, b)[0, 1] > 0.99


# -- what cannot work -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"top": 0}, ConfigError, "top is 0; expected at least 1"),
        ({"ig_steps": 0}, ConfigError, "ig_steps is 0; expected at least 1"),
        ({"probe": text_probe()}, DataError, "has plain text"),
        ({"probe": None}, DataError, "is missing"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings, error, message):
    model = tiny("llama")
    with pytest.raises(error, match=message):
        edge_scores(model, component_table(model), **{"probe": pair_probe(), **settings})


def test_a_family_without_known_norms_is_refused(monkeypatch):
    monkeypatch.delitem(NORMS, "llama")
    with pytest.raises(ConfigError, match="norms of model type 'llama'"):
        every(tiny("llama"))


def test_a_diverged_model_is_reported_by_edge():
    model = tiny("llama")
    model.lm_head.weight.data.fill_(float("nan"))
    with pytest.raises(NonFiniteError, match="input -> L0.head.0"):
        every(model)
