"""Scores that are reduced in the backward pass: equal to those with everything kept, in memory that does not grow."""

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from eval.scoring.memory import Living
from foresight.model import shipped
from foresight.model.components import component_table
from foresight.scoring import attribution as scoring_attribution
from foresight.scoring import make_scorer, taps
from foresight.scoring.exact import substitutes
from foresight.scoring.gradient_taps import weight_gradients
from foresight.scoring.probes import Batch, ContrastProbe
from foresight.scoring.scorer import scoring_mode
from foresight.scoring.taps import embeddings, sites, tallied, tapped
from support.scoring_cases import goodness, logits_of, pair_probe
from support.tiny import tiny, tokens


def kept_whole(model, places, batch, corrupted=False):
    """(activations, logits) of a pass that keeps every tapped activation in the graph."""
    seen = {}
    with tapped(model, places, seen.__setitem__):
        logits = logits_of(model, batch, corrupted)
    return [seen[i] for i in range(len(places))], logits


def attribution(model, table, probe, ablation, metric):
    """Samples as they were computed when every activation and its gradient were kept."""
    places, rows = sites(table), []
    replaced = substitutes(model, places, probe, ablation)
    for batch in probe.batches:
        with torch.no_grad():
            clean, clean_logits = kept_whole(model, places, batch)
        others = clean if metric == "kl" else replaced(batch)
        with embeddings(model):
            here, logits = kept_whole(model, places, batch, corrupted=metric == "kl")
            total = goodness(metric, logits, batch, clean_logits).sum()
            gradients = torch.autograd.grad(total, here)
        scores = torch.zeros(len(batch), len(table) + 1)
        for site, a, other, g in zip(places, here, others, gradients, strict=True):
            scores.index_add_(1, site.owner, ((a.detach() - other) * g).sum(1)[:, : site.width])
        rows.append(scores[:, : len(table)] * (-1 if metric == "kl" else 1))
    return torch.cat(rows).double().numpy()


@pytest.fixture(scope="module")
def trained():
    return AutoModelForCausalLM.from_pretrained(shipped.model_path()).requires_grad_(False).eval()


@pytest.mark.parametrize(
    ("ablation", "metric"),
    [("zero", "loss"), ("mean", "loss"), ("corrupted", "logit_difference"), ("corrupted", "kl"), ("corrupted", "loss")],
)
@pytest.mark.parametrize("at_once", [1, 2**22])
def test_scores_equal_those_with_everything_kept(trained, ablation, metric, at_once, monkeypatch):
    monkeypatch.setattr(taps, "AT_ONCE", at_once)  # products of single examples, or of all together
    monkeypatch.setattr(scoring_attribution, "TOKENS_HELD", 18)  # two pairs at a time
    model, table, probe = trained, component_table(trained), pair_probe((9, 7, 8, 6, 9), batch_size=3)
    expected = attribution(model, table, probe, ablation, metric)
    found = make_scorer("attribution", ablation=ablation, metric=metric).samples(model, table, probe)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6 * np.abs(expected).max())


@pytest.mark.parametrize("checkpointing", [False, True])
def test_scores_fall_out_of_training_steps(checkpointing):
    """The sums of two ordinary forward and backward passes are the scores of their losses, row by row."""
    model = tiny("mistral")
    if checkpointing:
        model.train().gradient_checkpointing_enable({"use_reentrant": False})
    table, probe = component_table(model), pair_probe((9, 9, 9, 9), batch_size=2)
    with tallied(model, sites(table), len(table)) as tally:
        for batch in probe.batches:
            goodness("loss", logits_of(model, batch), batch).sum().backward()
    found = tally.take()
    assert all(p.grad is not None for p in model.parameters())
    expected = make_scorer("gradient_activation").samples(model, table, probe)
    torch.testing.assert_close(found, torch.from_numpy(expected).float(), rtol=1e-4, atol=1e-6)
    assert not model.model.layers[0].self_attn.o_proj._forward_pre_hooks


def test_what_no_gradient_reaches_is_not_measured():
    model = tiny("mistral").requires_grad_(False)
    model.model.layers[1].self_attn.q_proj.requires_grad_(True)  # its input, below, has no gradient
    table, (batch,) = component_table(model), pair_probe().batches
    with tallied(model, sites(table), len(table)) as tally:
        goodness("loss", logits_of(model, batch), batch).sum().backward()
    missing = tally.take().isnan()
    above = (table.layer == 1) & (table.kind != "kv")
    assert missing[:, ~above].all() and not missing[:, above].any()


# -- memory -----------------------------------------------------------------------------------------------------------

ROWS, LENGTH, WIDTH = 4, 16, 64
SHAPE = dict(hidden_size=WIDTH, intermediate_size=256, num_attention_heads=4, num_key_value_heads=2)


def peak(layers, work):
    """Bytes above the weights at the peak of a pass through a checkpointed model."""
    model = tiny("mistral", num_hidden_layers=layers, **SHAPE).requires_grad_(False)
    model.train().gradient_checkpointing_enable({"use_reentrant": False})
    table, ids = component_table(model), tokens(ROWS, LENGTH)
    batch = Batch(ids, torch.ones_like(ids), ids, ids.flip(1), ids[:, 0])
    with scoring_mode(model), Living([*model.parameters(), *model.buffers()]) as living:
        work(model, table, ContrastProbe([batch]))
    return living.peak


def scored(name, **params):
    scorer = make_scorer(name, **params)
    return lambda model, table, probe: scorer._samples(model, table, probe)


WORKS = {
    "zero": scored("gradient_activation"),
    "mean": scored("gradient_activation", ablation="mean"),
    "integrated": scored("attribution_ig", points=2),
    "weights": lambda model, table, probe: weight_gradients(model, table, probe.batches[0], lambda target, grad: None),
}


@pytest.mark.parametrize("name", WORKS)
def test_a_layer_adds_its_checkpoint_and_nothing_else(name):
    few, many = (peak(layers, WORKS[name]) for layers in (2, 6))
    points = 2 if name == "integrated" else 1
    checkpoint = 4 * points * ROWS * LENGTH * WIDTH
    small = 4 * ROWS * (WIDTH + 256 + 2 * 32) * 2  # sums by feature, and a mean of each
    assert 0 < many - few <= 4 * (checkpoint + small), (few, many)


def test_corrupted_activations_are_held_for_few_tokens_at_a_time(monkeypatch):
    def added():
        work = make_scorer("attribution").samples
        return peak(6, work) - peak(2, work)

    whole = added()
    monkeypatch.setattr(scoring_attribution, "TOKENS_HELD", LENGTH)
    assert added() < 0.4 * whole
