"""Every family of transformers that the table in foresight/model/README.md takes: a tiny random model of each.

`pytest -m "slow or not slow" tests/model/test_families.py` goes through all of them; CI through a sample.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from eval.families import listed, tiny_family
from foresight.bank import Bank
from foresight.bank.base_weights import is_bank_key
from foresight.bank.optimizer import BankAdamW
from foresight.common.errors import ArchitectureError
from foresight.masks.selection import select
from foresight.model.components import component_table, turned
from foresight.model.self_check import check_components
from foresight.scoring import make_scorer
from foresight.scoring.probes import TextProbe
from support.bank_cases import SETTINGS, weight_masks
from support.tiny import tokens

SAMPLE = ("qwen3_moe", "gpt_oss", "qwen3_5_text", "gemma4_text", "deepseek_v3", "falcon", "olmo2", "opt")
"""One for each way in which a family can differ: experts, linear attention, heads of two widths, latent attention, a
fused query with one key, norms over all heads, no gate."""
FAMILIES = [pytest.param(f, marks=() if f in SAMPLE else pytest.mark.slow) for f in listed()]


def test_enough_families_are_taken():
    assert len(listed()) >= 60 and set(SAMPLE) <= set(listed())


def _trained(model, optimizer, parameters):
    for step in range(3):
        ids = tokens(3, 8, seed=step)
        logits = model(input_ids=ids, use_cache=False).logits
        loss = torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1).float(), ids[:, 1:].flatten())
        gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
        optimizer.step()


@pytest.mark.parametrize("family", FAMILIES)
def test_components_are_what_the_table_says(family):
    model = tiny_family(family)
    table = component_table(model)
    ids = np.concatenate([table.vector_ids([i]) for i in range(len(table))])
    assert sorted(ids) == list(range(table.n_vectors)) and table.n_vectors * table.d_model < table.model_parameters
    check_components(model, table)
    assert model.training is False and not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


@pytest.mark.parametrize("family", FAMILIES)
def test_a_component_knocked_out_at_its_tap_is_one_whose_columns_are_zero(family):
    model, ids = tiny_family(family), tokens(2, 8)
    table = component_table(model)
    for component in [table.components[i] for kind in ("head", "mlp") for i in np.flatnonzero(table.kind == kind)[-1:]]:
        tap, columns = component.taps[0], component.slices[-1]

        def zero(module, args, tap=tap):
            x = args[0].clone()
            x[..., tap.start : tap.stop] = 0
            return (x, *args[1:])

        module = model.get_submodule(tap.module)
        handle = module.register_forward_pre_hook(zero)
        knocked = model(ids, use_cache=False).logits
        handle.remove()
        plain = model(ids, use_cache=False).logits
        saved = module.weight.detach().clone()
        with torch.no_grad():
            turned(module.weight, module)[:, columns.start : columns.stop] = 0
        assert torch.allclose(model(ids, use_cache=False).logits, knocked, atol=1e-5)
        assert not torch.equal(plain, knocked)
        with torch.no_grad():
            module.weight.copy_(saved)


@pytest.mark.parametrize("family", FAMILIES)
def test_training_is_masked_exact_and_exported(family):
    """AdamW on the bank equals AdamW on the weights, gradients zeroed outside the mask; nothing else changes; what is
    exported is what was trained.
    """
    reference, model = tiny_family(family), tiny_family(family)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    table = component_table(model)
    bank = Bank(model, table, table.n_vectors // 3)
    bank.remask(select(np.random.default_rng(0).random(len(table)), table, table.n_vectors // 3))
    _trained(model, BankAdamW(bank.vectors, **SETTINGS), [bank.vectors])
    masks = weight_masks(reference, table, bank.mask)
    for name, weight in reference.named_parameters():
        weight.requires_grad_(bool(masks[name].any()))
        if weight.requires_grad:
            weight.register_hook(lambda g, inside=masks[name]: g * inside)
    parameters = [weight for weight in reference.parameters() if weight.requires_grad]
    _trained(reference, torch.optim.AdamW(parameters, **SETTINGS), parameters)
    merged = bank.merged_state_dict()
    for name, weight in reference.named_parameters():
        assert torch.allclose(merged[name], weight, atol=1e-4), name
        assert torch.equal(merged[name][~masks[name]], before[name][~masks[name]]), name
    assert any(not torch.equal(merged[name], before[name]) for name in merged)
    exported = tiny_family(family)
    exported.load_state_dict({name: weight for name, weight in merged.items() if not is_bank_key(name)})
    ids = tokens(2, 8, seed=9)
    with torch.no_grad():
        assert torch.allclose(exported(ids, use_cache=False).logits, model(ids, use_cache=False).logits, atol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_scores_of_examples_do_not_depend_on_their_batch(family):
    model = tiny_family(family).requires_grad_(False)
    table, rows = component_table(model), [{"input_ids": row} for row in tokens(4, 8).tolist()]
    for name in ("step_attribution", "gradient_activation"):
        one, four = (make_scorer(name).samples(model, table, TextProbe.from_dataset(rows, size)) for size in (1, 4))
        assert one.shape == (4, len(table)) and np.isfinite(one).all() and one.any(0).mean() > 0.5
        assert np.allclose(one, four, rtol=1e-3, atol=1e-5 * np.abs(one).max())


def test_a_layout_that_lies_is_caught():
    """Differential attention subtracts one half of the heads from the other; names and shapes are Llama's."""
    model = tiny_family("diffllama")
    with pytest.raises(ArchitectureError, match="'diffllama' is not what its layout says: without the rows of L0.head"):
        check_components(model, component_table(model))
