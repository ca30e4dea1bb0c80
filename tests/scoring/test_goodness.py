import pytest
import torch
from transformers import CohereConfig, CohereForCausalLM, GraniteConfig, GraniteForCausalLM

from foresight.scoring import goodness as where
from foresight.scoring.goodness import batch_loss, goodness, head_of
from foresight.scoring.taps import embeddings, hidden_of
from support import scoring_cases as plain
from support.scoring_cases import logits_of, pair_batch, text_probe
from support.tiny import FAMILIES, SIZES, SPECIAL, tiny

METRICS = ("loss", "logit_difference", "kl")
CAPPED = dict(final_logit_softcapping=2.0)


def by_hand(batch, logits, value):
    """Mean over the labelled positions of each example of value(logits [vocabulary], example, position)."""
    at, result = (batch.targets >= 0).any(0).nonzero().flatten().tolist(), []
    for b in range(len(batch)):
        found = [value(logits[b, k], b, t) for k, t in enumerate(at) if batch.targets[b, t] >= 0]
        result.append(sum(found) / len(found))
    return torch.stack(result)


def batch_of(metric):
    return pair_batch((9, 6, 7)) if metric == "logit_difference" else text_probe((9, 6, 5), batch_size=3).batches[0]


@torch.no_grad()
@pytest.mark.parametrize("metric", METRICS)
def test_a_metric_is_what_its_definition_says(metric):
    model, other, batch = tiny("llama"), tiny("llama", seed=1), batch_of(metric)
    logits, clean = logits_of(model, batch), logits_of(other, batch).softmax(-1)
    at = (batch.targets >= 0).any(0).nonzero().flatten().tolist()
    expected = {
        "loss": lambda row, b, t: row.log_softmax(0)[batch.targets[b, t]],
        "logit_difference": lambda row, b, t: row[batch.targets[b, t]] - row[batch.wrong[b]],
        "kl": lambda row, b, t: -(clean[b, at.index(t)] * (clean[b, at.index(t)].log() - row.log_softmax(0))).sum(),
    }[metric]
    other.lm_head = model.lm_head  # the clean run is another one of the same model
    clean_hidden = hidden_of(other, batch)
    clean = logits_of(other, batch).softmax(-1)
    found = goodness(metric, model, hidden_of(model, batch), batch, clean_hidden)
    torch.testing.assert_close(found, by_hand(batch, logits, expected))


@pytest.mark.parametrize("tokens", [1, 3, 1000])
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(("family", "changes"), [("llama", {}), ("gpt2", {}), ("gemma2", CAPPED)], ids=str)
def test_chunks_give_the_value_and_gradient_of_the_whole(family, changes, metric, tokens, monkeypatch):
    """Against all logits at once from the model's own forward pass, softcapped where the model does that."""
    monkeypatch.setattr(where, "CHUNK", tokens * 64)
    model, batch = tiny(family, **changes), batch_of(metric)
    clean = tiny(family, seed=1, **changes)
    clean.set_output_embeddings(model.get_output_embeddings())
    with torch.no_grad():
        clean_hidden, clean_logits = hidden_of(clean, batch), logits_of(clean, batch)
    weights = torch.tensor([1.0, -2.0, 0.5])
    with embeddings(model) as leaves:
        expected = plain.goodness(metric, logits_of(model, batch), batch, clean_logits)
        (slope,) = torch.autograd.grad((expected * weights).sum(), leaves)
    with embeddings(model) as leaves:
        found = goodness(metric, model, hidden_of(model, batch), batch, clean_hidden)
        (gradient,) = torch.autograd.grad((found * weights).sum(), leaves)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(gradient, slope, rtol=1e-4, atol=1e-6)


@torch.no_grad()
@pytest.mark.parametrize("family", FAMILIES)
def test_the_head_alone_makes_the_models_logits(family):
    model, batch = tiny(family, **(CAPPED if family.startswith("gemma") else {})), batch_of("loss")
    logits = logits_of(model, batch)[batch.targets[:, (batch.targets >= 0).any(0)] >= 0]
    torch.testing.assert_close(head_of(model)(hidden_of(model, batch)), logits)


@torch.no_grad()
@pytest.mark.parametrize(
    ("model", "config"),
    [
        (CohereForCausalLM, CohereConfig(**SIZES, **SPECIAL, logit_scale=0.1)),
        (GraniteForCausalLM, GraniteConfig(**SIZES, **SPECIAL, logits_scaling=8.0)),
    ],
    ids=["cohere", "granite"],
)
def test_scaled_logits_are_scaled_in_chunks_too(model, config):
    model, batch = model(config).eval(), batch_of("loss")
    found = goodness("loss", model, hidden_of(model, batch), batch)
    torch.testing.assert_close(found, plain.goodness("loss", logits_of(model, batch), batch))


def test_functions_that_trainers_put_around_the_model_are_not_called_for_the_head():
    model = tiny("llama")
    hidden = hidden_of(model, batch_of("loss")).detach()
    expected, run = head_of(model)(hidden), model.forward
    model.forward = lambda *args, **kwargs: run(*args, **kwargs)  # it would run all layers of the model itself
    assert head_of(model)(hidden).equal(expected)
    half = head_of(model)(hidden.bfloat16())  # as the layers leave it under autocast
    torch.testing.assert_close(half.float(), expected, rtol=0.02, atol=0.05)


def test_batch_loss_is_the_mean_over_tokens_as_in_training():
    model, batch = tiny("llama"), batch_of("loss")
    labels = torch.cat([torch.full((3, 1), -100), batch.targets[:, :-1]], 1)
    expected = model(input_ids=batch.input_ids, attention_mask=batch.attention_mask, labels=labels).loss
    torch.testing.assert_close(batch_loss(model, hidden_of(model, batch), batch), expected)


def test_a_divergence_from_oneself_is_nothing():
    model, batch = tiny("llama"), batch_of("kl")
    hidden = hidden_of(model, batch)
    assert goodness("kl", model, hidden, batch, hidden).abs().max() < 1e-6


@pytest.mark.parametrize("metric", METRICS)
def test_metrics_are_computed_in_float32(metric):
    model, batch = tiny("llama").bfloat16(), batch_of(metric)
    hidden = hidden_of(model, batch)
    assert hidden.dtype == torch.bfloat16 and goodness(metric, model, hidden, batch, hidden).dtype == torch.float32
