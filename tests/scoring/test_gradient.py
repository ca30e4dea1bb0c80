import numpy as np
import pytest
import torch

from foresight.common.errors import ConfigError, DataError, UnknownNameError
from foresight.model.components import component_table, stored_transposed
from foresight.scoring import make_scorer
from foresight.scoring.gradient_taps import stored_weight_of, sum_by_owner, weight_gradients
from foresight.scoring.scorer import scoring_mode
from support.scoring_cases import batch_loss, logits_of, pair_probe, text_probe
from support.tiny import FAMILIES, tiny


def true_gradients(model, table, batch):
    """Of every target, autograd's own weight gradient as [output features, input features]."""
    modules = [model.get_submodule(t.module) for t in table.targets]
    found = torch.autograd.grad(batch_loss(logits_of(model, batch), batch), [m.weight for m in modules])
    pairs = zip(modules, found, strict=True)
    turned = [g.T if stored_transposed(m) else g for m, g in pairs]
    return dict(zip((t.module for t in table.targets), turned, strict=True))


def by_slices(table, per_module):
    """Sum [output features, input features] matrices over the slices of each component, without `sum_by_owner`."""
    result = []
    for component in table:
        total = 0.0
        for s in component.slices:
            matrix = per_module[s.module]
            total += float((matrix if s.axis == "row" else matrix.T)[s.start : s.stop].double().sum())
        result.append(total)
    return np.array(result)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("make_probe", [pair_probe, text_probe])
def test_tapped_gradients_equal_those_of_autograd(family, make_probe):
    model = tiny(family)
    table, batch = component_table(model), make_probe().batches[0]
    expected = true_gradients(model, table, batch)
    seen = []

    def compare(target, gradient):
        seen.append(target.module)
        truth = expected[target.module] if target.axis == "row" else expected[target.module].T
        assert gradient.shape == (target.n, table.d_model) and gradient.dtype == torch.float32
        torch.testing.assert_close(gradient, truth, rtol=1e-4, atol=1e-5 * truth.abs().max().item())

    with scoring_mode(model.requires_grad_(False)):
        weight_gradients(model, table, batch, compare)
    assert sorted(seen) == sorted(t.module for t in table.targets)


@pytest.mark.parametrize("family", FAMILIES)
def test_weight_scores_equal_direct_computation(family):
    model, probe = tiny(family), text_probe()
    table = component_table(model)
    gradients = [true_gradients(model, table, batch) for batch in probe.batches]
    positions = [int((batch.targets >= 0).sum()) for batch in probe.batches]
    shares = np.array(positions) / sum(positions)
    whole = {m: sum(float(s) * g[m] for s, g in zip(shares, gradients, strict=True)) for m in gradients[0]}
    weight = stored_weight_of(model)
    of_sum = {
        "gradient": np.sqrt(by_slices(table, {m: g.square() for m, g in whole.items()})),
        "weight_gradient": by_slices(table, {m: (g * weight(m)).abs() for m, g in whole.items()}),
    }
    for name, values in of_sum.items():
        scores = make_scorer(name).score(model, table, probe)
        np.testing.assert_allclose(scores.values, values, rtol=1e-4)
        assert np.isnan(scores.stderr).all()

    def by_minibatch(reduce):
        return np.stack([by_slices(table, {m: reduce(g) for m, g in one.items()}) for one in gradients])

    squares, sizes = by_minibatch(torch.square), by_minibatch(torch.abs)
    norms = np.sqrt(squares)
    minibatch = [
        ("gradient_local", {}, norms.mean(0), norms.std(0, ddof=1) / np.sqrt(2)),
        ("utility", {}, squares.sum(0), squares.std(0, ddof=1) * np.sqrt(2)),
        ("utility", {"preconditioner": "adam"}, sizes.sum(0), sizes.std(0, ddof=1) * np.sqrt(2)),
    ]
    for name, params, values, stderr in minibatch:
        scores = make_scorer(name, **params).score(model, table, probe)
        np.testing.assert_allclose(scores.values, values, rtol=1e-4)
        np.testing.assert_allclose(scores.stderr, stderr, rtol=1e-2, atol=1e-6 * values.max())


def test_the_gradient_of_the_probe_does_not_depend_on_its_batches():
    model = tiny("llama")
    table = component_table(model)
    scores = [make_scorer("gradient").score(model, table, text_probe(batch_size=n)).values for n in (1, 3, 100)]
    for other in scores[1:]:
        np.testing.assert_allclose(other, scores[0], rtol=1e-4)


def test_utility_foresees_a_small_step_of_gradient_descent():
    model, probe = tiny("llama", initializer_range=0.05), text_probe(batch_size=4)
    table, batch = component_table(model), probe.batches[0]
    utility = make_scorer("utility").score(model, table, probe).values
    gradients = true_gradients(model, table, batch)
    rate, best = 0.01, int(utility.argmax())
    with torch.no_grad():
        before = batch_loss(logits_of(model, batch), batch).item()
        for s in table.components[best].slices:
            weight, gradient = model.get_submodule(s.module).weight, gradients[s.module]
            pick = (slice(s.start, s.stop),) if s.axis == "row" else (slice(None), slice(s.start, s.stop))
            weight[pick] -= rate * gradient[pick]
        after = batch_loss(logits_of(model, batch), batch).item()
    assert before - after == pytest.approx(rate * utility[best], rel=0.05)


def test_one_minibatch_has_no_standard_error():
    model = tiny("llama")
    for name in ("gradient_local", "utility"):
        assert np.isnan(make_scorer(name).score(model, component_table(model), pair_probe()).stderr).all()


def test_the_weight_in_effect_can_be_given():
    model, probe = tiny("gpt2"), pair_probe()
    table = component_table(model)
    plain = make_scorer("weight_gradient").score(model, table, probe).values
    stored = stored_weight_of(model)
    doubled = make_scorer("weight_gradient", weights=lambda: lambda m: 2 * stored(m)).score(model, table, probe).values
    np.testing.assert_allclose(doubled, 2 * plain, rtol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_movement_is_the_distance_of_the_weights(family):
    model, moved = tiny(family), tiny(family, seed=1)
    table = component_table(model)
    stored, now = stored_weight_of(model), stored_weight_of(moved)
    reference = {t.module: stored(t.module) for t in table.targets}
    expected = np.sqrt(by_slices(table, {m: (now(m) - w).square() for m, w in reference.items()}))
    scores = make_scorer("movement", reference=reference).score(moved, table, None)
    np.testing.assert_allclose(scores.values, expected, rtol=1e-4)
    assert not scores.stderr.any()
    assert not make_scorer("movement", reference=reference).score(model, table, None).values.any()
    given = make_scorer("movement", reference=reference, weights=lambda: now).score(model, table, pair_probe())
    np.testing.assert_array_equal(given.values, scores.values)


def test_movement_names_only_the_component_that_moved():
    model = tiny("mistral")
    table = component_table(model)
    reference = {t.module: stored_weight_of(model)(t.module).clone() for t in table.targets}
    kv = table.components[table.id_of["L1.kv.1"]].slices[0]
    model.get_submodule(kv.module).weight.data[kv.start] += 3.0
    values = make_scorer("movement", reference=reference).score(model, table, None).values
    assert np.flatnonzero(values).tolist() == [table.id_of["L1.kv.1"]]
    assert values.max() == pytest.approx(3.0 * np.sqrt(table.d_model), rel=1e-5)


def test_every_vector_has_one_owner():
    table = component_table(tiny("phi3"))
    np.testing.assert_array_equal(sum_by_owner(table, np.ones(table.n_vectors)), table.vectors)


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ({}, "no weight of model.layers.0.self_attn.q_proj"),
        ({"model.layers.0.self_attn.q_proj": torch.zeros(3, 2)}, "has shape \\(3, 2\\)"),
    ],
)
def test_movement_refuses_a_reference_that_does_not_fit(reference, message):
    model = tiny("llama")
    with pytest.raises(ConfigError, match=message):
        make_scorer("movement", reference=reference).score(model, component_table(model), None)


def test_bad_settings_are_refused():
    with pytest.raises(UnknownNameError, match="unknown preconditioner 'adm' \\(did you mean 'adam'"):
        make_scorer("utility", preconditioner="adm")
    model = tiny("llama")
    with pytest.raises(DataError, match="gradient needs a probe"):
        make_scorer("gradient").score(model, component_table(model), None)
