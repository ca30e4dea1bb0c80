import numpy as np
import pytest
import torch

from foresight.common.errors import ConfigError, DataError, UnknownNameError
from foresight.model.components import component_table
from foresight.scoring import make_scorer
from foresight.scoring.exact import substitutes
from foresight.scoring.taps import record, sites, tapped
from support.scoring_cases import goodness, logits_of, pair_probe, text_probe
from support.tiny import FAMILIES, tiny


def slopes(model, table, probe, ablation, metric, towards):
    """Change of the mean goodness per unit of moving each component towards `towards`, by central differences."""
    places = sites(table)
    with torch.no_grad():
        targets_of = substitutes(model, places, probe, ablation) if towards == "substitute" else None
        result = np.zeros(len(table))
        for batch in probe.batches:
            clean_logits = logits_of(model, batch)
            ends = targets_of(batch) if targets_of else record(model, places, batch).activations
            for c in range(len(table)):
                ends_of_run = []
                for t in (0.01, -0.01):

                    def move(i, activation, t=t, c=c):
                        mine = places[i].owner == c
                        return activation + t * mine * (ends[i] - activation)  # noqa: B023

                    with tapped(model, places, move):
                        logits = logits_of(model, batch, corrupted=towards == "clean")
                    ends_of_run.append(goodness(metric, logits, batch, clean_logits).sum().item())
                result[c] += (ends_of_run[0] - ends_of_run[1]) / 0.02 / probe.n_examples
    return result


@pytest.mark.parametrize("family", FAMILIES)
def test_attribution_is_minus_the_slope_towards_the_substitute(family):
    model = tiny(family, initializer_range=0.1)
    table, probe = component_table(model, mlp_block=16), pair_probe((8, 6), batch_size=1)
    scores = make_scorer("attribution").score(model, table, probe)
    expected = -slopes(model, table, probe, "corrupted", "logit_difference", "substitute")
    np.testing.assert_allclose(scores.values, expected, rtol=0.02, atol=0.01 * np.abs(expected).max())


@pytest.mark.parametrize("ablation", ["corrupted", "zero", "mean"])
@pytest.mark.parametrize("metric", ["logit_difference", "loss"])
def test_every_ablation_and_metric_is_a_slope(ablation, metric):
    model, probe = tiny("mistral", initializer_range=0.1), pair_probe((8, 6), batch_size=1)
    table = component_table(model, mlp_block=16)
    scores = make_scorer("attribution", ablation=ablation, metric=metric).score(model, table, probe)
    expected = -slopes(model, table, probe, ablation, metric, "substitute")
    np.testing.assert_allclose(scores.values, expected, rtol=0.02, atol=0.01 * np.abs(expected).max())


def test_kl_attribution_is_the_slope_of_restoring_at_the_corrupted_run():
    model, probe = tiny("mistral", initializer_range=0.1), pair_probe((8, 6), batch_size=1)
    table = component_table(model, mlp_block=16)
    scores = make_scorer("attribution", metric="kl").score(model, table, probe)
    expected = slopes(model, table, probe, "corrupted", "kl", "clean")
    assert np.abs(expected).max() > 1e-4
    np.testing.assert_allclose(scores.values, expected, rtol=0.03, atol=0.02 * np.abs(expected).max())


@pytest.mark.parametrize("family", ["llama", "phi3", "gpt2", "gpt_neox"])
def test_attribution_approaches_exact_patching_for_small_changes(family):
    """Corrupted tokens whose embeddings are almost those of the clean ones: halving the gap must halve the error."""
    probe = pair_probe()
    changed = probe.batches[0].input_ids != probe.batches[0].corrupted_ids
    errors = []
    for gap in (0.02, 0.005):
        model = tiny(family)
        weight = model.get_input_embeddings().weight.data
        clean, corrupted = probe.batches[0].input_ids[changed], probe.batches[0].corrupted_ids[changed]
        original = weight.clone()
        for a, b in zip(clean.tolist(), corrupted.tolist(), strict=True):
            weight[b] = weight[a] + gap * (original[b] - weight[a])
        table = component_table(model)
        exact = make_scorer("exact").score(model, table, probe).values
        estimate = make_scorer("attribution").score(model, table, probe).values
        errors.append(np.linalg.norm(estimate - exact) / np.linalg.norm(exact))
    assert errors[1] < 0.03 and errors[1] < 0.6 * errors[0]


def test_absolute_attribution_averages_absolute_values():
    model, probe = tiny("llama"), pair_probe((7,) * 6)
    table = component_table(model)
    scorer = make_scorer("attribution")
    rows = scorer._samples(model, table, probe)
    absolute = make_scorer("attribution_abs").score(model, table, probe)
    np.testing.assert_allclose(absolute.values, np.abs(rows).mean(0), rtol=1e-5)
    assert (absolute.values >= np.abs(scorer.score(model, table, probe).values) - 1e-6).all()


def test_standard_errors_come_from_single_examples():
    model = tiny("llama")
    table = component_table(model)
    probe = pair_probe((7,) * 6)
    alone = [make_scorer("attribution").score(model, table, pair_probe((7,) * 6).__class__([b])) for b in
             (probe.batches[0].rows(slice(i, i + 1)) for i in range(6))]  # fmt: skip
    assert all(np.isnan(s.stderr).all() for s in alone)
    rows = np.stack([s.values for s in alone])
    together = make_scorer("attribution").score(model, table, probe)
    assert together.values.dtype == together.stderr.dtype == np.float32
    np.testing.assert_allclose(together.stderr, rows.std(0, ddof=1) / np.sqrt(6), rtol=1e-3)


def test_gradient_activation_is_zero_ablation_attribution_of_the_loss_and_needs_no_pairs():
    model, table = tiny("llama"), component_table(tiny("llama"))
    pairs = pair_probe()
    plain = make_scorer("gradient_activation").score(model, table, pairs).values
    same = make_scorer("attribution", ablation="zero", metric="loss").score(model, table, pairs).values
    np.testing.assert_array_equal(plain, same)
    assert not make_scorer("gradient_activation").needs_pairs
    assert np.isfinite(make_scorer("gradient_activation").score(model, table, text_probe()).stderr).all()


def test_scores_of_text_do_not_depend_on_batching():
    model, table = tiny("qwen2"), component_table(tiny("qwen2"))
    for ablation in ("zero", "mean"):
        scores = [
            make_scorer("gradient_activation", ablation=ablation).score(model, table, text_probe(batch_size=n)).values
            for n in (1, 4)
        ]
        np.testing.assert_allclose(*scores, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "params", "error", "message"),
    [
        ("attribution", {"ablation": "zreo"}, UnknownNameError, "did you mean 'zero'"),
        ("attribution", {"metric": "los"}, UnknownNameError, "did you mean 'loss'"),
        ("attribution", {"metric": "kl", "ablation": "zero"}, ConfigError, "no gradient there"),
        ("gradient_activation", {"ablation": "corrupted"}, UnknownNameError, "unknown ablation 'corrupted'"),
    ],
)
def test_settings_that_cannot_work_are_refused(name, params, error, message):
    with pytest.raises(error, match=message):
        make_scorer(name, **params)


@pytest.mark.parametrize("params", [{}, {"ablation": "zero"}, {"metric": "loss"}])
def test_text_without_pairs_is_refused_where_pairs_are_needed(params):
    model = tiny("llama")
    with pytest.raises(DataError, match="gradient_activation"):
        make_scorer("attribution", **params).score(model, component_table(model), text_probe())
