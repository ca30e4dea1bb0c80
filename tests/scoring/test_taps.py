import random

import numpy as np
import pytest
import torch

from foresight.model.components import component_table, stored_transposed
from foresight.scoring import make_scorer
from foresight.scoring.probes import Batch, ContrastProbe
from foresight.scoring.scorer import scoring_mode
from foresight.scoring.taps import sites
from support.scoring_cases import goodness, logits_of, pair_batch, pair_probe, text_probe
from support.tiny import FAMILIES, tiny

ACTIVATION_SCORERS = ("attribution", "attribution_abs", "attribution_ig", "exact", "gradient_activation")
WEIGHT_SCORERS = ("gradient", "weight_gradient", "utility")


def values(name, model, probe, **params):
    return make_scorer(name, **params).score(model, component_table(model), probe).values


@pytest.mark.parametrize("family", FAMILIES)
def test_every_tapped_feature_has_one_owner(family):
    model = tiny(family)
    table = component_table(model)
    tapped = torch.cat([site.owner for site in sites(table)])
    count = torch.bincount(tapped, minlength=len(table) + 1)[: len(table)]
    expected = [sum(tap.stop - tap.start for tap in c.taps) for c in table]
    assert count.tolist() == expected


@pytest.mark.parametrize("family", FAMILIES)
def test_slice_sums_equal_attribution_at_the_output_projection(family):
    """A head's score must equal (change of its output through its columns) . (gradient at the projection's output)."""
    model, probe = tiny(family), pair_probe()
    table, batch = component_table(model), probe.batches[0]
    seen = {}
    handles = []
    for target in table.targets:
        if target.axis == "column":

            def hook(module, args, output, name=target.module):
                seen[name] = args[0], output

            handles.append(model.get_submodule(target.module).register_forward_hook(hook))
    with torch.no_grad():
        logits_of(model, batch, corrupted=True)
    corrupted = {name: inputs for name, (inputs, _) in seen.items()}
    total = goodness("logit_difference", logits_of(model, batch), batch).sum()
    gradients = dict(zip(seen, torch.autograd.grad(total, [output for _, output in seen.values()]), strict=True))
    for handle in handles:
        handle.remove()
    scores = values("attribution", model, probe)
    for i, component in enumerate(table):
        if component.kind == "kv":
            continue
        columns = component.slices[-1]
        module = model.get_submodule(columns.module)
        weight = module.weight.T if stored_transposed(module) else module.weight
        change = (seen[columns.module][0] - corrupted[columns.module])[..., columns.start : columns.stop]
        written = change @ weight[:, columns.start : columns.stop].T
        expected = (written * gradients[columns.module]).sum() / len(batch)
        assert scores[i] == pytest.approx(expected.item(), rel=1e-3, abs=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_padded_batch_equals_single_examples(family):
    model = tiny(family)
    together = pair_batch((9, 6, 12, 7))
    alone = []
    for i, length in enumerate((9, 6, 12, 7)):
        one = together.rows(slice(i, i + 1))
        rows = one.input_ids, one.attention_mask, one.targets, one.corrupted_ids
        alone.append(Batch(*(row[:, :length] for row in rows), one.wrong))
    for name in ("attribution", "attribution_ig", "exact"):
        padded = values(name, model, ContrastProbe([together]))
        single = values(name, model, ContrastProbe(alone))
        np.testing.assert_allclose(padded, single, rtol=1e-4, atol=1e-5 * np.abs(single).max())
    padded = values("gradient_activation", model, ContrastProbe([together]), ablation="mean")
    single = values("gradient_activation", model, ContrastProbe(alone), ablation="mean")
    np.testing.assert_allclose(padded, single, rtol=1e-4, atol=1e-5 * np.abs(single).max())


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("name", "runs"), [("attribution", 3), ("attribution_ig", 8), ("gradient", 2)])
def test_checkpointing_changes_nothing(family, name, runs):
    """`runs` counts forwards of a layer, recomputation included: one more per backward than without checkpointing."""
    model = tiny(family)
    plain = values(name, model, pair_probe())
    model.gradient_checkpointing_enable({"use_reentrant": False})
    calls = []
    layer = component_table(model).targets[0].module
    model.get_submodule(layer).register_forward_hook(lambda *_: calls.append(1))
    np.testing.assert_array_equal(values(name, model.train(), pair_probe()), plain)
    assert len(calls) == runs


@pytest.mark.parametrize("name", ["attribution", "gradient"])
def test_reentrant_checkpointing_is_off_while_scoring(name):
    model = tiny("llama")
    plain = values(name, model, pair_probe())
    model.gradient_checkpointing_enable({"use_reentrant": True})
    np.testing.assert_array_equal(values(name, model.train(), pair_probe()), plain)
    assert model.model.layers[0].training


@pytest.mark.parametrize("name", [*ACTIVATION_SCORERS, *WEIGHT_SCORERS])
def test_frozen_model_gives_the_same_scores(name):
    model = tiny("qwen3")
    plain = values(name, model, pair_probe())
    np.testing.assert_array_equal(values(name, model.requires_grad_(False), pair_probe()), plain)


@pytest.mark.parametrize("name", [*ACTIVATION_SCORERS, *WEIGHT_SCORERS])
def test_bfloat16_agrees_with_float32(name):
    model = tiny("llama", initializer_range=0.05)
    probe = pair_probe((9,) * 12)
    full = values(name, model, probe)
    half = values(name, model.to(torch.bfloat16), probe)
    # single patches move bf16 logits by few of their steps, so exact patching itself is coarser than its estimate
    assert np.corrcoef(full, half)[0, 1] > (0.95 if name == "exact" else 0.995)


@pytest.mark.parametrize("name", [*ACTIVATION_SCORERS, *WEIGHT_SCORERS])
def test_scoring_leaves_no_trace(name):
    """`.grad`, requires_grad, weights, training flags, hooks and random states are as they were."""
    model = tiny("llama", attention_dropout=0.5).train()
    model.model.layers[1].eval()
    parameters = list(model.parameters())
    parameters[0].grad = torch.ones_like(parameters[0])
    parameters[1].requires_grad_(False)
    weights = [p.detach().clone() for p in parameters]
    flags = [m.training for m in model.modules()]
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    first = values(name, model, pair_probe())
    assert torch.equal(parameters[0].grad, torch.ones_like(parameters[0]))
    assert all(p.grad is None for p in parameters[1:])
    assert [p.requires_grad for p in parameters] == [i != 1 for i in range(len(parameters))]
    assert all(map(torch.equal, parameters, weights))
    assert [m.training for m in model.modules()] == flags
    assert hooks(model) == 0
    assert torch.equal(torch.get_rng_state(), states[0])
    assert (random.getstate(), np.random.get_state()[1].tolist()) == states[1:]
    np.testing.assert_array_equal(values(name, model, pair_probe()), first)  # eval mode: no dropout


def hooks(model):
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


@pytest.mark.parametrize("name", [*ACTIVATION_SCORERS, *WEIGHT_SCORERS])
def test_hooks_are_gone_after_an_exception(name):
    model = tiny("mistral").train()

    def fail(module, args):
        raise RuntimeError("device lost")

    handle = model.lm_head.register_forward_pre_hook(fail)
    with pytest.raises(RuntimeError, match="device lost"):
        values(name, model, pair_probe())
    handle.remove()
    assert hooks(model) == 0 and model.training and model.model.layers[0].training


@pytest.mark.parametrize("name", [*ACTIVATION_SCORERS, "gradient", "utility"])
def test_scores_see_what_earlier_hooks_do_to_linears(name):
    """A bank adds rows and columns by forward hooks: scores must be those of the model with the sum as its weights."""
    hooked, merged = tiny("mistral"), tiny("mistral")
    table = component_table(hooked)
    for i, target in enumerate(table.targets):
        delta = 0.1 * torch.randn(hooked.get_submodule(target.module).weight.shape, generator=torch.manual_seed(i))
        hooked.get_submodule(target.module).register_forward_hook(
            lambda module, args, output, delta=delta: output + args[0] @ delta.T
        )
        merged.get_submodule(target.module).weight.data += delta
    for probe in (pair_probe(),) if name.startswith("attribution") or name == "exact" else (pair_probe(), text_probe()):
        expected = values(name, merged, probe)
        np.testing.assert_allclose(values(name, hooked, probe), expected, rtol=2e-3, atol=1e-4 * np.abs(expected).max())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("name", [*ACTIVATION_SCORERS, *WEIGHT_SCORERS])
def test_scores_on_a_gpu_equal_those_on_the_cpu(name):
    model = tiny("mistral", initializer_range=0.05)
    probe = pair_probe((9, 6, 7))
    expected = values(name, model, probe)
    np.testing.assert_allclose(
        values(name, model.cuda(), probe), expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max()
    )


def test_scoring_mode_keeps_flags_of_each_module():
    model = tiny("llama").train()
    model.lm_head.eval()
    with scoring_mode(model):
        assert not any(m.training for m in model.modules())
    assert model.training and not model.lm_head.training
