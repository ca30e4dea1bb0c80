import numpy as np
import pytest
import torch
from torch import nn

from foresight.common.errors import ConfigError
from foresight.model.components import component_table
from foresight.scoring import make_scorer
from foresight.scoring.goodness import goodness as measured
from foresight.scoring.probes import ContrastProbe
from foresight.scoring.taps import record, sites
from support.scoring_cases import goodness, logits_of, pair_probe
from support.tiny import tiny


def one_attention_layer():
    """Attention with uniform weights on unnormalised inputs: activations are linear in the embeddings, and all that
    reaches the last position (whose own token is not corrupted) passes through the heads; the final norm is curved."""
    model = tiny("llama", num_hidden_layers=1)
    layer = model.model.layers[0]
    layer.input_layernorm = nn.Identity()
    layer.self_attn.q_proj.weight.data.zero_()
    layer.mlp.down_proj.weight.data.zero_()
    return model


def test_scores_of_a_cut_add_up_to_the_change_of_the_metric():
    model, probe = one_attention_layer(), pair_probe((8, 8, 8))
    table = component_table(model)
    batch = probe.batches[0]
    with torch.no_grad():
        difference = [goodness("logit_difference", logits_of(model, batch, c), batch).mean() for c in (False, True)]
    expected = float(difference[0] - difference[1])
    errors = [
        abs(make_scorer("attribution_ig", points=n).score(model, table, probe).values.sum() - expected)
        for n in (2, 5, 65)
    ]
    attribution = abs(make_scorer("attribution").score(model, table, probe).values.sum() - expected)
    assert errors[2] < 1e-3 * abs(expected)
    assert errors[2] < errors[1] < errors[0] < attribution


def test_on_a_linear_model_all_points_agree_and_are_complete():
    model, probe = one_attention_layer(), pair_probe((8, 8, 8))
    model.model.norm = nn.Identity()
    model.model.layers[0].post_attention_layernorm = nn.Identity()
    table = component_table(model)
    few, many = (make_scorer("attribution_ig", points=n).score(model, table, probe).values for n in (2, 9))
    np.testing.assert_allclose(few, many, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(few, make_scorer("exact").score(model, table, probe).values, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("family", ["mistral", "gemma3_text", "gpt2"])
def test_two_points_average_the_gradients_of_the_clean_and_the_corrupted_run(family):
    model, probe = tiny(family), pair_probe()
    table = component_table(model)
    places, batch = sites(table), probe.batches[0]
    runs = []
    for corrupted in (False, True):
        run = record(model, places, batch, corrupted)
        total = measured("logit_difference", model, run.hidden, batch).sum()
        runs.append((run.activations, torch.autograd.grad(total, run.activations)))
    expected = np.zeros(len(table) + 1)
    for i, site in enumerate(places):
        change = runs[0][0][i] - runs[1][0][i]
        product = change * (runs[0][1][i] + runs[1][1][i]) / 2
        np.add.at(expected, site.owner.numpy(), product.detach().sum((0, 1)).numpy() / len(batch))
    scores = make_scorer("attribution_ig", points=2).score(model, table, probe).values
    np.testing.assert_allclose(scores, expected[:-1], rtol=1e-3, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("metric", ["logit_difference", "loss", "kl"])
def test_scores_do_not_depend_on_how_batches_are_taken_apart(metric):
    model, probe = tiny("llama"), pair_probe((9, 7, 8, 9, 6, 9, 9))
    table = component_table(model)
    alone = ContrastProbe(probe.batches[0].rows(slice(i, i + 1)) for i in range(7))
    scorer = make_scorer("attribution_ig", points=3, metric=metric)
    first, second = scorer.score(model, table, probe), scorer.score(model, table, alone)
    np.testing.assert_allclose(first.values, second.values, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(first.stderr, second.stderr, rtol=1e-3, atol=1e-5)


def test_one_point_is_refused():
    with pytest.raises(ConfigError, match="points is 1; expected at least 2"):
        make_scorer("attribution_ig", points=1)
