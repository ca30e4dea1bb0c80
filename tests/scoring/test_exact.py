import copy

import numpy as np
import pytest
import torch

from foresight.model.components import component_table, stored_transposed
from foresight.scoring import exact, make_scorer
from foresight.scoring.exact import ablation_effects
from foresight.scoring.taps import record, sites
from support.scoring_cases import goodness, logits_of, pair_probe, text_probe
from support.tiny import FAMILIES, tiny


def without(model, component):
    """A copy whose weights make the component's activation zero: by weights instead of hooks."""
    model = copy.deepcopy(model)
    slices = component.slices if component.kind == "kv" else component.slices[-1:]
    for s in slices:
        module = model.get_submodule(s.module)
        weight = module.weight.data.T if stored_transposed(module) else module.weight.data
        if s.axis == "row":
            weight[s.start : s.stop] = 0
            if module.bias is not None:
                module.bias.data[s.start : s.stop] = 0
        else:
            weight[:, s.start : s.stop] = 0
    return model


@pytest.mark.parametrize("family", FAMILIES)
def test_zero_ablation_equals_a_model_with_zeroed_weights(family):
    model, probe = tiny(family), pair_probe((8, 6))
    table, batch = component_table(model), probe.batches[0]
    scores = make_scorer("exact", ablation="zero").score(model, table, probe).values
    with torch.no_grad():
        clean = goodness("logit_difference", logits_of(model, batch), batch)
        for i, component in enumerate(table):
            ablated = goodness("logit_difference", logits_of(without(model, component), batch), batch)
            assert scores[i] == pytest.approx((clean - ablated).mean().item(), rel=1e-3, abs=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_patching_a_component_replaces_exactly_its_own_activations(family):
    """Also of KV groups, in families whose queries, keys and values share one module."""
    model, probe = tiny(family), pair_probe((8, 6))
    table, batch = component_table(model), probe.batches[0]
    places = sites(table)
    scores = make_scorer("exact").score(model, table, probe).values
    with torch.no_grad():
        corrupted = record(model, places, batch, corrupted=True).activations
        clean = goodness("logit_difference", logits_of(model, batch), batch)
        for kind in set(table.kind.tolist()):
            i = int(np.flatnonzero(table.kind == kind)[-1])
            handles = []
            for tap in table.components[i].taps:
                source = corrupted[[(s.module, s.side) for s in places].index((tap.module, tap.side))]

                def swap(x, source=source, tap=tap):
                    return torch.cat([x[..., : tap.start], source[..., tap.start : tap.stop], x[..., tap.stop :]], -1)

                module = model.get_submodule(tap.module)
                if tap.side == "input":
                    handles.append(module.register_forward_pre_hook(lambda m, args, swap=swap: (swap(args[0]),)))
                else:
                    handles.append(module.register_forward_hook(lambda m, args, out, swap=swap: swap(out)))
            patched = goodness("logit_difference", logits_of(model, batch), batch)
            for handle in handles:
                handle.remove()
            assert scores[i] == pytest.approx((clean - patched).mean().item(), rel=1e-4, abs=1e-5)


def test_mean_ablation_ignores_padding_and_weighs_every_position_alike():
    model, probe = tiny("llama"), pair_probe((9, 4), batch_size=1)
    table = component_table(model)
    places = sites(table)
    with torch.no_grad():
        rows = [record(model, places, b).activations[0][b.attention_mask.bool()] for b in probe.batches]
    mean = torch.cat(rows).mean(0)
    component = table.components[0]
    tap = component.taps[0]

    def swap(module, args):
        x = args[0].clone()
        x[..., tap.start : tap.stop] = mean[tap.start : tap.stop]
        return (x,)

    drops = []
    with torch.no_grad():
        for batch in probe.batches:
            clean = goodness("logit_difference", logits_of(model, batch), batch)
            handle = model.get_submodule(tap.module).register_forward_pre_hook(swap)
            drops.append((clean - goodness("logit_difference", logits_of(model, batch), batch)).item())
            handle.remove()
    scores = make_scorer("exact", ablation="mean").score(model, table, probe)
    assert scores.values[0] == pytest.approx(np.mean(drops), rel=1e-4)
    assert scores.stderr[0] == pytest.approx(np.std(drops, ddof=1) / np.sqrt(2), rel=1e-3)


@pytest.mark.parametrize("metric", ["logit_difference", "loss", "kl"])
def test_components_that_share_a_forward_do_not_meet(monkeypatch, metric):
    model, probe = tiny("qwen3"), pair_probe((8, 6, 7), batch_size=2)
    table = component_table(model)
    together = make_scorer("exact", metric=metric).score(model, table, probe).values
    monkeypatch.setattr(exact, "TOKENS_PER_RUN", 1)
    one_by_one = make_scorer("exact", metric=metric).score(model, table, probe).values
    np.testing.assert_allclose(together, one_by_one, rtol=1e-4, atol=1e-5)
    if metric == "kl":
        assert (one_by_one > -1e-6).all()  # the drop of -KL is a KL


def test_groups_are_ablated_together():
    """All heads and MLPs of all layers patched: only the embeddings of the last token are left, which are clean."""
    model, probe = tiny("llama"), pair_probe((8, 8))
    table, batch = component_table(model), probe.batches[0]
    with torch.no_grad():
        clean, corrupted = (goodness("logit_difference", logits_of(model, batch, c), batch) for c in (False, True))
    effects = ablation_effects(model, table, probe, [range(len(table)), []])
    np.testing.assert_allclose(effects[:, 0], (clean - corrupted).numpy(), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(effects[:, 1], 0, atol=1e-6)


def test_text_is_scored_by_zero_ablation_of_the_loss():
    model = tiny("llama")
    table = component_table(model)
    scorer = make_scorer("exact", ablation="zero", metric="loss")
    assert not scorer.needs_pairs
    first, second = (scorer.score(model, table, text_probe(batch_size=n)).values for n in (1, 4))
    np.testing.assert_allclose(first, second, rtol=1e-4, atol=1e-5)
