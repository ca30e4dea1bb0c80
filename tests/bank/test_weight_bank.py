"""The bank of single weights: a masked run equals a reference run, nothing else moves by one bit, no state is lost."""

import copy

import numpy as np
import pytest
import torch

from foresight.bank import AnyBank, Bank, weights
from foresight.bank.base_weights import is_bank_key
from foresight.bank.optimizer import BankAdamW
from foresight.bank.weights import WeightBank
from foresight.common.errors import BudgetError, CheckpointError, ConfigError, MaskLeakError
from foresight.masks.budget import budget_vectors
from foresight.masks.masks import Mask, WeightMask, churn
from foresight.model.components import component_table
from foresight.model.weight_table import weight_table
from support.bank_cases import SETTINGS, train
from support.tiny import FAMILIES, tiny, tokens


def random_mask(bank, seed):
    ids = np.random.default_rng(seed).choice(bank.table.n_vectors, bank.n_vectors, replace=False)
    return WeightMask(np.sort(ids))


def banked(family="llama", budget=0.05, seed=0, dtype=torch.float32, **changes):
    """(model, bank with a random mask, optimizer) of a tiny model."""
    model = tiny(family, dtype=dtype, **changes)
    table = weight_table(model)
    bank = WeightBank(model, table, budget_vectors(table, budget))
    bank.remask(random_mask(bank, seed))
    return model, bank, BankAdamW(bank.vectors, **SETTINGS)


def entries(model, table):
    """[(parameter name, weight ids of its flattened entries)], by the definition of the id and not by the bank."""
    return [(f"{t.module}.weight", range(t.offset, t.offset + t.n)) for t in table.targets]


def weight_masks(model, table, mask):
    """Parameter name -> bool tensor, True where the mask trains."""
    masks = {n: torch.zeros_like(p, dtype=torch.bool) for n, p in model.named_parameters() if not is_bank_key(n)}
    for name, ids in entries(model, table):
        masks[name].view(-1)[:] = torch.from_numpy(np.isin(np.arange(ids.start, ids.stop), mask.components))
    return masks


@pytest.mark.parametrize("family", FAMILIES)
def test_masked_run_equals_reference_with_masked_gradients(family):
    """Plain AdamW on the model's own weights, dense gradients zeroed outside the mask: the same final weights."""
    reference = tiny(family)
    model, bank, optimizer = banked(family)
    train(model, optimizer, 6)
    masks = weight_masks(reference, bank.table, bank.mask)
    plain = torch.optim.AdamW(reference.parameters(), **SETTINGS)
    for name, parameter in reference.named_parameters():
        parameter.register_hook(lambda g, inside=masks[name]: g * inside)
    train(reference, plain, 6)
    merged = bank.merged_state_dict()
    for name, parameter in reference.named_parameters():
        assert torch.allclose(merged[name], parameter, atol=2e-5), name
    assert torch.allclose(model(tokens()).logits, reference(tokens()).logits, atol=1e-3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("family", ["llama", "phi3", "gpt2"])
def test_outside_nothing_changes_by_a_bit_and_every_chosen_weight_moves(family, dtype):
    before = tiny(family, dtype=dtype).state_dict()
    model, bank, _ = banked(family, dtype=dtype)
    train(model, BankAdamW(bank.vectors, lr=1e-2, weight_decay=0.1), 50)
    merged = bank.merged_state_dict()
    for name, inside in weight_masks(model, bank.table, bank.mask).items():
        assert torch.equal(merged[name][~inside], before[name][~inside]), name
    assert bank.unmoved() == 0
    bank.base.verify()


def test_all_weights_equal_full_fine_tuning_of_the_same_matrices():
    reference, model = tiny(), tiny()
    table = weight_table(model)
    bank = WeightBank(model, table, table.n_vectors)
    bank.remask(WeightMask(np.arange(table.n_vectors)))
    train(model, BankAdamW(bank.vectors, **SETTINGS), 6)
    matrices = [reference.get_submodule(t.module).weight for t in table.targets]
    train(reference, torch.optim.AdamW(matrices, **SETTINGS), 6)
    merged = bank.merged_state_dict()
    for name, value in reference.state_dict().items():
        assert torch.allclose(merged[name], value, atol=2e-5), name


def test_whole_vectors_train_as_in_the_bank_of_vectors():
    """The same weights under both banks: rows of a projection, once as vectors and once as their entries."""
    models = tiny("gpt2"), tiny("gpt2")  # whose weights are stored transposed
    vectors = Bank(models[0], component_table(models[0]), 400)
    vectors.remask(Mask((1, 5)))
    before = tiny("gpt2").state_dict()
    train(models[0], BankAdamW(vectors.vectors, **SETTINGS), 4)
    after = vectors.merged_state_dict()
    changed = {key: after[key] != before[key] for key in before}
    table = weight_table(models[1])
    ids = [t.offset + changed[f"{t.module}.weight"].flatten().nonzero().flatten() for t in table.targets]
    bank = WeightBank(models[1], table, len(torch.cat(ids)))
    bank.remask(WeightMask(torch.cat(ids).numpy()))
    train(models[1], BankAdamW(bank.vectors, **SETTINGS), 4)
    for key, value in bank.merged_state_dict().items():
        assert torch.allclose(value, after[key], atol=1e-5), key


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_re_masked_run_equals_a_reference_with_one_adam_per_weight(family):
    reference = tiny(family)
    model, bank, optimizer = banked(family)
    names = entries(reference, bank.table)
    parameters = dict(reference.named_parameters())
    n = bank.table.n_vectors
    mean, square, age = np.zeros((3, n))
    b1, b2 = SETTINGS["betas"]
    for turn in range(4):
        kept = np.union1d(bank.mask.components[::2], random_mask(bank, turn).components)[: bank.n_vectors]
        bank.remask(WeightMask(kept), optimizer)
        inside = np.isin(np.arange(n), kept)
        mean[~inside], square[~inside], age[~inside] = 0, 0, 0
        for step in range(3 * turn, 3 * turn + 3):
            train(model, optimizer, 1, start=step)
            reference.zero_grad()
            reference.train()
            reference(input_ids=tokens(seed=step), labels=tokens(seed=step)).loss.backward()
            g = np.concatenate([parameters[name].grad.flatten().numpy() for name, _ in names])
            age[inside] += 1
            mean[inside] = b1 * mean[inside] + (1 - b1) * g[inside]
            square[inside] = b2 * square[inside] + (1 - b2) * g[inside] ** 2
            move = np.zeros(n)
            corrected = np.sqrt(square[inside] / (1 - b2 ** age[inside])) + SETTINGS["eps"]
            move[inside] = SETTINGS["lr"] * mean[inside] / (1 - b1 ** age[inside]) / corrected
            for name, ids in names:
                shape = parameters[name].shape
                parameters[name].data -= torch.from_numpy(move[ids.start : ids.stop]).float().view(shape)
    assert len(bank.ledger) and 0 < churn(random_mask(bank, 0), bank.mask) < 1
    merged = bank.merged_state_dict()
    for name, parameter in parameters.items():
        assert torch.allclose(merged[name], parameter, atol=5e-5), name


def test_the_budget_and_all_state_keep_their_size_over_re_masks():
    model, bank, optimizer = banked()
    n = int(0.05 * bank.table.model_parameters)
    for turn in range(5):
        train(model, optimizer, 1)
        assert sum(p.numel() for p in model.parameters() if p.requires_grad) == n == len(bank.ids)
        assert {k: v.numel() for k, v in optimizer.state[bank.vectors].items()} == {"exp_avg": n, "exp_avg_sq": n}
        assert optimizer.ages.shape == (n,)
        bank.remask(random_mask(bank, turn), optimizer)
    assert len(bank.ledger) > n


def test_re_mask_leaves_the_function_alone_and_starts_entering_weights_afresh():
    model, bank, optimizer = banked()
    train(model, optimizer, 4)
    logits, old = model(tokens()).logits, bank.ids.numpy()
    values, ages = bank.vectors.detach().clone(), optimizer.ages.clone()
    mask = WeightMask(np.union1d(old[: len(old) // 2], random_mask(bank, 1).components)[: bank.n_vectors])
    entered, _ = bank.remask(mask, optimizer)
    assert 0 < entered < len(mask) and len(np.setdiff1d(old, mask.components))
    assert torch.allclose(model(tokens()).logits, logits, atol=1e-5)
    stayed = np.isin(mask.components, old)
    rows = np.searchsorted(old, mask.components[stayed])
    assert torch.equal(bank.vectors[stayed], values[rows]) and torch.equal(optimizer.ages[stayed], ages[rows])
    assert not bank.vectors[~stayed].any() and not optimizer.ages[~stayed].any()
    assert not any(v[~stayed].any() for v in optimizer.state[bank.vectors].values())


def test_accumulation_equals_one_batch():
    one, many = banked(), banked()
    train(one[0], one[2], 5)
    train(many[0], many[2], 5, accumulate=2)
    assert torch.allclose(one[1].vectors, many[1].vectors, atol=1e-5)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_non_reentrant_checkpointing_is_exact(family):
    plain, saving = banked(family), banked(family)
    saving[0].gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    for run in (plain, saving):
        train(run[0], run[2], 2)
        run[1].remask(random_mask(run[1], 1), run[2])
        train(run[0], run[2], 2)
    assert torch.equal(plain[1].vectors, saving[1].vectors)


def test_autocast_computes_in_its_dtype_and_trains_fp32_values():
    model, bank, optimizer = banked()
    exact = model(tokens()).logits
    with torch.autocast("cpu", torch.bfloat16):
        output = model(input_ids=tokens(), labels=tokens())
    output.loss.backward()
    assert bank.vectors.grad.dtype == torch.float32 and bank.vectors.grad.abs().min() > 0
    assert 0 < (output.logits - exact).abs().max() < 0.1 * exact.abs().max()


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_bf16_computes_with_the_rounded_sum_and_keeps_an_fp32_record(family):
    """A weight that leaves and comes back goes on from its fp32 value, not from the rounded base."""
    model, bank, optimizer = banked(family, dtype=torch.bfloat16)
    first = bank.mask
    train(model, optimizer, 5)
    plain = tiny(family, dtype=torch.bfloat16)
    plain.load_state_dict(bank.merged_state_dict())
    assert torch.equal(plain(tokens()).logits, model(tokens()).logits)
    ids, exact = bank.changed()
    bank.remask(random_mask(bank, 7), optimizer)
    known, recorded = bank.ledger.find(ids)
    assert torch.equal(recorded, exact[known]) and known.float().mean() > 0.9
    bank.remask(first, optimizer)
    changed, values = bank.changed()
    assert torch.equal(values[torch.isin(changed, ids)], exact)
    bank.base.verify()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_restore_continues_bit_for_bit(dtype):
    model, bank, optimizer = banked(dtype=dtype)
    for seed in (1, 2):
        train(model, optimizer, 3, start=3 * seed)
        bank.remask(random_mask(bank, seed), optimizer)
    tensors = copy.deepcopy(bank.tensors(optimizer))
    train(model, optimizer, 3, start=12)

    other = tiny(dtype=dtype)
    resumed = WeightBank(other, weight_table(other), bank.n_vectors)
    continued = BankAdamW(resumed.vectors, **SETTINGS)
    resumed.restore(tensors, bank.mask, continued)
    train(other, continued, 3, start=12)
    assert torch.equal(resumed.vectors, bank.vectors)
    expected = bank.merged_state_dict()
    assert all(torch.equal(v, expected[k]) for k, v in resumed.merged_state_dict().items())
    resumed.base.verify()


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_effective_weight_is_base_plus_bank(family):
    model, bank, optimizer = banked(family)
    train(model, optimizer, 3)
    merged = bank.merged_state_dict()
    for target in bank.table.targets:
        stored = merged[f"{target.module}.weight"]
        assert torch.equal(bank.weights()(target.module), stored.T if family == "gpt2" else stored)


def test_no_dense_gradient_is_kept_and_backward_keeps_no_weights():
    """What autograd saves of the touched Linears is their inputs and the bank: no matrix of a weight's size."""
    model, bank, _ = banked()
    stored = {p.data_ptr() for p in model.parameters()}
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t):
        loss = model(input_ids=tokens(), labels=tokens()).loss
    sizes = {(t.n // 32, 32) for t in bank.table.targets} | {(32, t.n // 32) for t in bank.table.targets}
    fresh = [t for t in saved if t.untyped_storage().data_ptr() not in stored]
    assert not [t.shape for t in fresh if tuple(t.shape) in sizes - {tuple(tokens().shape)}]
    loss.backward()
    assert [n for n, p in model.named_parameters() if p.grad is not None] == ["model.foresight_bank.vectors"]


def test_backward_stops_below_the_lowest_masked_layer():
    model, bank, _ = banked()
    top = next(t for t in bank.table.targets if "layers.1." in t.module)
    bank.remask(WeightMask(np.arange(top.offset, top.offset + 9)))
    seen = []
    model.model.layers[0].register_forward_hook(lambda m, a, o: seen.append(o[0].requires_grad))
    model(input_ids=tokens(), labels=tokens()).loss.backward()
    assert seen == [False] and int((bank.vectors.grad != 0).sum()) == 9


def test_untouched_linears_and_a_detached_model_are_plain():
    model, bank, _ = banked()
    bank.remask(WeightMask(np.arange(5)))
    changed = [t.module for t in bank.table.targets if "forward" in vars(model.get_submodule(t.module))]
    assert changed == [bank.table.targets[0].module]
    bank.detach()
    assert set(model.state_dict()) == set(tiny().state_dict())
    assert torch.equal(model(tokens()).logits, tiny()(tokens()).logits)


def test_a_leak_is_found_and_named():
    model, bank, optimizer = banked()
    model.model.layers[1].mlp.up_proj.weight.data[5, 3] += 1e-6
    with pytest.raises(MaskLeakError, match=r"layers\.1\.mlp\.up_proj\.weight changed"):
        bank.remask(random_mask(bank, 1), optimizer)


def test_bad_inputs():
    model, bank, optimizer = banked()
    assert isinstance(bank, AnyBank)
    with pytest.raises(ConfigError, match="has a bank already"):
        WeightBank(model, bank.table, 10)
    with pytest.raises(ConfigError, match=r"mask has \d+ weights, the bank"):
        bank.remask(WeightMask(np.arange(bank.table.n_vectors)))
    with pytest.raises(BudgetError, match="buys 0 weights"):
        budget_vectors(bank.table, 1e-9)
    half = tiny(dtype=torch.float16)
    with pytest.raises(ConfigError, match="float32 or bfloat16"):
        WeightBank(half, weight_table(half), 10)
    good = bank.tensors(optimizer)
    for broken, message in (
        ({"bank.vectors": torch.zeros(3, 32)}, "does not hold its mask"),
        ({"ledger.ids": torch.tensor([10**9]), "ledger.values": torch.zeros(1, 1)}, "does not fit"),
    ):
        with pytest.raises(CheckpointError, match=message):
            bank.restore({**good, **broken}, bank.mask, optimizer)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_the_gradients_of_few_weights_are_those_of_the_dense_product(family, monkeypatch):
    found = []
    for few in (0.0, 1.0):
        monkeypatch.setattr(weights, "FEW", few)
        model, bank, _ = banked(family, budget=0.004)
        model(tokens(), labels=tokens()).loss.backward()
        found.append(bank.vectors.grad.clone())
    assert found[0].any() and torch.allclose(*found, atol=1e-6)
