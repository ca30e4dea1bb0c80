"""The bank: a masked run equals a reference run, nothing else moves by one bit, and no state is ever lost."""

import copy

import numpy as np
import pytest
import torch

from foresight.bank import Bank
from foresight.bank.optimizer import BankAdamW
from foresight.common.errors import CheckpointError, ConfigError, MaskLeakError
from foresight.masks.budget import budget_vectors
from foresight.masks.masks import Mask, everything
from foresight.masks.selection import select
from foresight.model.components import component_table, stored_transposed
from support.bank_cases import SETTINGS, banked, random_mask, train, weight_masks
from support.tiny import FAMILIES, tiny, tokens


def all_state(bank, optimizer):
    return {"ages": optimizer.ages, **dict(bank.placement.state(bank.vectors, optimizer))}


@pytest.mark.parametrize("family", FAMILIES)
def test_masked_run_equals_reference_with_masked_gradients(family):
    """Plain AdamW on the model's own weights, gradients zeroed outside the mask: the same final weights."""
    reference = tiny(family)
    model, bank, optimizer = banked(family)
    train(model, optimizer, 8)
    masks = weight_masks(reference, bank.table, bank.mask)
    plain = torch.optim.AdamW(reference.parameters(), **SETTINGS)
    for name, parameter in reference.named_parameters():
        parameter.register_hook(lambda g, inside=masks[name]: g * inside)
    train(reference, plain, 8)
    merged = bank.merged_state_dict()
    for name, parameter in reference.named_parameters():
        assert torch.allclose(merged[name], parameter, atol=2e-5), name
    assert torch.allclose(model(tokens()).logits, reference(tokens()).logits, atol=1e-3)


@pytest.mark.parametrize("family", FAMILIES)
def test_outside_nothing_changes_by_a_bit_and_inside_everything_does(family):
    before = tiny(family).state_dict()
    model, bank, _ = banked(family)
    optimizer = BankAdamW(bank.vectors, lr=1e-2, weight_decay=0.1)
    train(model, optimizer, 50)
    masks, merged = weight_masks(model, bank.table, bank.mask), bank.merged_state_dict()
    for name, inside in masks.items():
        assert torch.equal(merged[name][~inside], before[name][~inside]), name
        moved = (merged[name][inside] != before[name][inside]).float().mean() if inside.any() else 1
        assert moved > 0.99, name  # a single weight may come back to its value by rounding
    bank.base.verify()


def test_full_mask_equals_full_fine_tuning_of_the_same_matrices():
    reference, model = tiny(), tiny()
    table = component_table(model)
    bank = Bank(model, table, table.n_vectors)
    bank.remask(everything(table))
    train(model, BankAdamW(bank.vectors, **SETTINGS), 8)
    matrices = [reference.get_submodule(t.module).weight for t in table.targets]
    train(reference, torch.optim.AdamW(matrices, **SETTINGS), 8)
    merged = bank.merged_state_dict()
    for target in table.targets:
        name = f"{target.module}.weight"
        assert torch.allclose(merged[name], reference.state_dict()[name], atol=2e-5), name


@pytest.mark.parametrize("family", ["llama", "phi3", "gpt2", "gpt_neox"])
def test_re_masked_run_equals_a_reference_with_ages(family):
    """Several re-masks: reference weights with one Adam per vector, state dropped when a vector leaves."""
    reference = tiny(family)
    model, bank, optimizer = banked(family)
    moments: dict[tuple[str, int], list] = {}
    for turn in range(4):
        mask = random_mask(bank, turn)
        bank.remask(mask, optimizer)
        wanted = {(s.module, s.axis, i) for c in mask.components for s in bank.table.components[c].slices
                  for i in range(s.start, s.stop)}  # fmt: skip
        moments = {key: value for key, value in moments.items() if key in wanted}
        for step in range(3 * turn, 3 * turn + 3):
            train(model, optimizer, 1, start=step)
            reference.zero_grad()
            reference.train()
            reference(input_ids=tokens(seed=step), labels=tokens(seed=step)).loss.backward()
            for key in wanted:
                _adam_of_one_vector(reference, key, moments.setdefault(key, [0, 0.0, 0.0]))
    for name, parameter in reference.named_parameters():
        assert torch.allclose(bank.merged_state_dict()[name], parameter, atol=5e-5), name


def _adam_of_one_vector(model, key, state):
    module_name, axis, i = key
    module = model.get_submodule(module_name)
    weight, grad = module.weight.data, module.weight.grad
    if stored_transposed(module):
        weight, grad = weight.T, grad.T
    weight, grad = (weight[i], grad[i]) if axis == "row" else (weight[:, i], grad[:, i])
    b1, b2 = SETTINGS["betas"]
    state[0] += 1
    state[1] = b1 * state[1] + (1 - b1) * grad
    state[2] = b2 * state[2] + (1 - b2) * grad**2
    mean, square = state[1] / (1 - b1 ** state[0]), state[2] / (1 - b2 ** state[0])
    weight -= SETTINGS["lr"] * mean / (square.sqrt() + SETTINGS["eps"])


def test_size_of_parameter_and_optimizer_state_never_changes():
    model, bank, optimizer = banked(budget=0.2)
    vectors = int(0.2 * bank.table.model_parameters / bank.table.d_model)
    for turn in range(11):
        train(model, optimizer, 1)
        trainable = [p for p in model.parameters() if p.requires_grad]
        assert [tuple(p.shape) for p in trainable] == [(vectors, bank.table.d_model)]
        state = optimizer.state[bank.vectors]
        size = vectors * bank.table.d_model
        assert {k: v.numel() for k, v in state.items()} == {"exp_avg": size, "exp_avg_sq": size}
        assert optimizer.ages.shape == (vectors,)
        bank.remask(random_mask(bank, turn), optimizer)


def test_re_mask_leaves_the_function_alone():
    model, bank, optimizer = banked()
    train(model, optimizer, 5)
    before = model(tokens()).logits
    for seed in range(1, 4):
        bank.remask(random_mask(bank, seed), optimizer)
        assert torch.allclose(model(tokens()).logits, before, atol=1e-5)


def test_staying_vectors_keep_value_moments_and_age_and_entering_ones_start_fresh():
    model, bank, optimizer = banked()
    train(model, optimizer, 4)
    ids, values = bank.ids, bank.vectors.detach().clone()
    state = {k: v.clone() for k, v in all_state(bank, optimizer).items()}
    entered, _ = bank.remask(random_mask(bank, 1), optimizer)
    assert 0 < entered < len(bank.ids) and set(ids.tolist()) - set(bank.ids.tolist())
    for row, vector in enumerate(bank.ids.tolist()):
        if vector in ids.tolist():
            old = ids.tolist().index(vector)
            assert torch.equal(bank.vectors[row], values[old])
            assert all(torch.equal(all_state(bank, optimizer)[k][row], v[old]) for k, v in state.items())
        else:
            assert not bank.vectors[row].any()
            assert not any(v[row].any() for v in all_state(bank, optimizer).values())


def test_restart_gives_everything_fresh_moments_but_keeps_values():
    model, bank, optimizer = banked()
    train(model, optimizer, 4)
    values = bank.vectors.detach().clone()
    bank.restart(optimizer)
    assert torch.equal(bank.vectors, values)
    assert not any(v.any() for v in all_state(bank, optimizer).values())


def test_a_fresh_vector_takes_a_first_step_of_one_learning_rate():
    model, bank, optimizer = banked()
    train(model, optimizer, 30)
    bank.remask(random_mask(bank, 1), optimizer)
    fresh = ~bank.vectors.detach()[: len(bank.ids)].any(-1)
    train(model, optimizer, 1, start=30)
    step = bank.vectors.detach()[: len(bank.ids)][fresh].abs()
    assert 0.9e-2 < step.median() < 1.01e-2 and step.max() < 1.01e-2


def test_accumulation_equals_one_batch():
    one, many = banked(), banked()
    train(one[0], one[2], 5)
    train(many[0], many[2], 5, accumulate=2)
    assert torch.allclose(one[1].vectors, many[1].vectors, atol=1e-5)


@pytest.mark.parametrize("family", ["llama", "gpt2", "gpt_neox"])
def test_non_reentrant_checkpointing_is_exact(family):
    plain, saving = banked(family), banked(family)
    saving[0].gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    for run in (plain, saving):
        train(run[0], run[2], 3)
        run[1].remask(random_mask(run[1], 1), run[2])
        train(run[0], run[2], 3)
    assert torch.equal(plain[1].vectors, saving[1].vectors)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_bf16_base_keeps_an_fp32_record(family):
    """A vector that leaves and comes back goes on from its fp32 value, not from the rounded base."""
    model, bank, optimizer = banked(family, dtype=torch.bfloat16)
    first = bank.mask
    train(model, optimizer, 5)
    ids, exact = bank.changed()
    bank.remask(Mask(tuple(i for i in range(len(bank.table)) if i not in first.components)[:3]), optimizer)
    recorded = bank.ledger.find(ids)[1]
    assert torch.equal(recorded, exact) and bank.vectors.dtype == torch.float32
    rounded = bank.merged_state_dict()
    assert all(v.dtype == torch.bfloat16 for v in rounded.values())
    bank.remask(first, optimizer)
    assert torch.equal(bank.changed()[1][torch.isin(bank.changed()[0], ids)], exact)
    bank.base.verify()


def test_bf16_outside_is_bitwise_unchanged():
    before = tiny(dtype=torch.bfloat16).state_dict()
    model, bank, optimizer = banked(dtype=torch.bfloat16)
    train(model, optimizer, 10)
    merged = bank.merged_state_dict()
    for name, inside in weight_masks(model, bank.table, bank.mask).items():
        assert torch.equal(merged[name][~inside], before[name][~inside])


def test_restore_continues_bit_for_bit():
    model, bank, optimizer = banked()
    for seed in (1, 2):
        train(model, optimizer, 3, start=3 * seed)
        bank.remask(random_mask(bank, seed), optimizer)
    train(model, optimizer, 3, start=9)
    tensors = copy.deepcopy(bank.tensors(optimizer))
    train(model, optimizer, 3, start=12)

    other = tiny()
    resumed = Bank(other, component_table(other), len(bank.vectors))
    continued = BankAdamW(resumed.vectors, **SETTINGS)
    resumed.restore(tensors, bank.mask, continued)
    train(other, continued, 3, start=12)
    assert torch.equal(resumed.vectors, bank.vectors)
    expected = bank.merged_state_dict()
    assert all(torch.equal(v, expected[k]) for k, v in resumed.merged_state_dict().items())
    resumed.base.verify()


def test_effective_weight_is_base_plus_bank():
    model, bank, optimizer = banked("gpt2")
    train(model, optimizer, 3)
    merged = bank.merged_state_dict()
    for target in bank.table.targets:
        stored = merged[f"{target.module}.weight"]
        expected = stored.T if stored_transposed(model.get_submodule(target.module)) else stored
        assert torch.allclose(bank.weights()(target.module), expected, atol=1e-7)


def test_rollback_forgets_and_shrinks():
    before = tiny()(tokens()).logits
    model = tiny()
    table = component_table(model)
    bank = Bank(model, table, table.n_vectors)
    bank.remask(everything(table))
    optimizer = BankAdamW(bank.vectors, **SETTINGS)
    train(model, optimizer, 3)
    small = budget_vectors(table, 0.2)
    mask = select(np.arange(len(table)), table, small)
    bank.remask(mask, optimizer, rollback=True, n_vectors=small)
    assert torch.equal(model(tokens()).logits, before) and len(bank.ledger) == 0
    assert bank.vectors.shape[0] == small == optimizer.state[bank.vectors]["exp_avg"].shape[0]
    train(model, optimizer, 2)
    bank.base.verify()


def test_shrinking_without_rollback_keeps_what_was_learned():
    model = tiny()
    table = component_table(model)
    bank = Bank(model, table, table.n_vectors)
    bank.remask(everything(table))
    optimizer = BankAdamW(bank.vectors, **SETTINGS)
    train(model, optimizer, 3)
    learned = model(tokens()).logits
    small = budget_vectors(table, 0.2)
    bank.remask(select(np.arange(len(table)), table, small), optimizer, n_vectors=small)
    assert torch.allclose(model(tokens()).logits, learned, atol=1e-5)


def test_a_leak_is_found_and_named():
    model, bank, optimizer = banked()
    model.model.layers[1].mlp.up_proj.weight.data[5, 3] += 1e-6
    with pytest.raises(MaskLeakError, match=r"layers\.1\.mlp\.up_proj\.weight changed"):
        bank.remask(random_mask(bank, 1), optimizer)


def test_a_leak_in_an_embedding_is_found():
    model, bank, _ = banked()
    model.model.embed_tokens.weight.data[0, 0] += 1e-3
    with pytest.raises(MaskLeakError, match="embed_tokens"):
        bank.base.verify()


def test_untouched_linears_take_the_plain_path():
    model, bank, _ = banked(budget=0.1)
    touched = {s.module for i in bank.mask.components for s in bank.table.components[i].slices}
    for target in bank.table.targets:
        assert ("forward" in vars(model.get_submodule(target.module))) == (target.module in touched)


def test_backward_stops_below_the_lowest_masked_layer():
    model, bank, _ = banked()
    top = [i for i, c in enumerate(bank.table) if c.layer == 1]
    bank.remask(Mask.of(top[:3]))
    seen = []
    model.model.layers[0].register_forward_hook(lambda m, a, o: seen.append(o[0].requires_grad))
    model(input_ids=tokens(), labels=tokens()).loss.backward()
    assert seen == [False] and bank.vectors.grad is not None


def test_detach_leaves_a_plain_model():
    model, bank, _ = banked()
    keys = set(tiny().state_dict())
    bank.detach()
    assert set(model.state_dict()) == keys and torch.equal(model(tokens()).logits, tiny()(tokens()).logits)


def test_bad_inputs():
    model, bank, optimizer = banked()
    with pytest.raises(ConfigError, match="has a bank already"):
        Bank(model, bank.table, 10)
    with pytest.raises(ConfigError, match="select it with n_vectors"):
        bank.remask(everything(bank.table))
    half = tiny(dtype=torch.float16)
    with pytest.raises(ConfigError, match="float32 or bfloat16"):
        Bank(half, component_table(half), 10)
    good = bank.tensors(optimizer)
    for broken, message in (
        ({"bank.vectors": torch.zeros(3, 7)}, "does not hold its mask"),
        ({"ledger.ids": torch.tensor([10**9]), "ledger.values": torch.zeros(1, 32)}, "does not fit"),
    ):
        with pytest.raises(CheckpointError, match=message):
            bank.restore({**good, **broken}, bank.mask, optimizer)
    with pytest.raises(CheckpointError, match=r"lacks bank\.ids"):
        bank.restore({k: v for k, v in good.items() if k != "bank.ids"}, bank.mask, optimizer)


def test_a_step_compiles_to_one_graph():
    """A break would run the touched Linears uncompiled, without a word."""
    model, bank, _ = banked(num_hidden_layers=1)
    rows = tokens(seed=0)
    model(input_ids=rows, labels=rows).loss.backward()
    expected, bank.vectors.grad = bank.vectors.grad, None
    torch.compiler.reset()
    torch.compile(model, backend="aot_eager", fullgraph=True)(input_ids=rows, labels=rows).loss.backward()
    assert torch.allclose(bank.vectors.grad, expected, atol=1e-6)
