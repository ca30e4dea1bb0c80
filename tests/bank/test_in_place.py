"""The bank in the weights: it trains what the bank beside them trains, and gives the base back bit for bit."""

import pytest
import torch

from foresight.bank import Bank, InPlaceBank
from foresight.bank.base_weights import as_vectors
from foresight.common.errors import ConfigError, MaskLeakError
from foresight.model.placement import Placement
from foresight.training.config import ForesightConfig
from support.bank_cases import banked, random_mask, train
from support.tiny import FAMILIES, tiny, tokens


def in_place(family="llama", kind=InPlaceBank, **changes):
    """As `banked`, with a large eps: Adam makes whole steps of gradients that are rounding alone."""
    return banked(family, kind=kind, eps=1e-5, **changes)


def close(found, wanted):
    """Up to 2 % of a step of Adam, which divides what is left of a gradient by its own size."""
    assert found.keys() == wanted.keys()
    for name in wanted:
        torch.testing.assert_close(found[name], wanted[name], rtol=0, atol=2e-4, msg=name)


@pytest.mark.parametrize("family", FAMILIES)
def test_it_trains_what_a_bank_beside_the_weights_trains_over_re_masks(family):
    pair = [in_place(family, kind) for kind in (Bank, InPlaceBank)]
    for part, seed in enumerate((1, 2, 0)):  # the last returns to a mask that was left
        for model, bank, optimizer in pair:
            train(model, optimizer, 3, start=3 * part)
            bank.remask(random_mask(bank, seed), optimizer)
    (_, beside, _), (model, inside, _) = pair
    close(inside.merged_state_dict(), beside.merged_state_dict())
    assert torch.equal(inside.ledger.ids, beside.ledger.ids) and len(inside.ledger)
    torch.testing.assert_close(model(tokens()).logits, pair[0][0](tokens()).logits, rtol=0, atol=1e-3)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_base_comes_back_bit_for_bit_and_outside_nothing_ever_changes(family):
    untouched = {name: p.clone() for name, p in tiny(family).named_parameters()}
    model, bank, optimizer = in_place(family)
    train(model, optimizer, 3)
    model(tokens())
    now, parts = dict(model.named_parameters()), dict(bank.table.by_target(bank.ids))
    for target in bank.table.targets:
        differs = now[f"{target.module}.weight"] != untouched[f"{target.module}.weight"]
        changed = as_vectors(differs, model.get_submodule(target.module), target.axis).any(1).nonzero().flatten()
        trained = bank.ids[parts[target]] - target.offset if target in parts else torch.zeros(0, dtype=torch.int64)
        assert torch.equal(changed, trained), target.module
    bank.base.verify()
    for name, parameter in untouched.items():
        assert torch.equal(dict(model.named_parameters())[name], parameter), name
    model(tokens())
    bank.detach()
    assert all(torch.equal(p, untouched[name]) for name, p in model.named_parameters())


def test_weights_in_effect_are_those_that_it_computes_with_before_and_after_a_forward_pass():
    model, bank, optimizer = in_place()
    train(model, optimizer, 2)
    merged, module = bank.merged_state_dict(), bank.table.targets[0].module
    for _ in range(2):
        assert torch.equal(bank.weights()(module), merged[f"{module}.weight"])
        model(tokens())
        assert torch.equal(model.get_submodule(module).weight, merged[f"{module}.weight"])
        bank.base.verify()


def test_reading_weights_between_the_passes_leaves_gradients_alone():
    gradients = []
    for reads in (False, True):
        model, bank, optimizer = in_place()
        train(model, optimizer, 2)
        loss = model(input_ids=tokens(), labels=tokens()).loss
        if reads:
            read = bank.weights()
            for target in bank.table.targets:
                read(target.module)
        loss.backward()
        gradients.append(bank.vectors.grad)
    assert torch.equal(*gradients) and gradients[0].any()


@pytest.mark.parametrize("accumulate, checkpointed", [(2, False), (1, True)])
def test_accumulation_and_checkpointing(accumulate, checkpointed):
    runs = []
    for kind in (Bank, InPlaceBank):
        model, bank, optimizer = in_place(kind=kind)
        if checkpointed:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        train(model, optimizer, 3, accumulate=accumulate)
        runs.append(bank.merged_state_dict())
    close(*runs)


def test_restore_continues_bit_for_bit():
    model, bank, optimizer = in_place()
    train(model, optimizer, 2)
    bank.remask(random_mask(bank, 1), optimizer)
    train(model, optimizer, 2, start=2)
    saved = {name: tensor.clone() for name, tensor in bank.tensors(optimizer).items()}
    train(model, optimizer, 2, start=4)
    again, other, fresh = in_place()
    other.restore(saved, bank.mask, fresh)
    train(again, fresh, 2, start=4)
    assert all(torch.equal(a, b) for a, b in zip(bank.changed(), other.changed(), strict=True))


def test_a_leak_is_found():
    model, bank, optimizer = in_place()
    train(model, optimizer, 1)
    with torch.no_grad():
        model.get_submodule(bank.table.targets[0].module).weight.add_(1e-3)
    with pytest.raises(MaskLeakError):
        bank.base.verify()


def test_weights_that_it_cannot_be_in_are_refused():
    with pytest.raises(ConfigError, match=r"bfloat16.*in_place"):
        in_place(dtype=torch.bfloat16)
    _, bank, _ = in_place()

    class Sharded(Placement):
        sharded = True

    with pytest.raises(ConfigError, match=r"sharded.*in_place"):
        bank.place(Sharded())


@pytest.mark.parametrize(
    "settings, word",
    [
        ({"policy": "predicted"}, "predicted"),
        ({"granularity": "weights"}, "weights"),
        ({"torch_compile": True}, "torch_compile"),
        ({"deepspeed": {"zero_optimization": {"stage": 1}}}, "deepspeed"),
    ],
)
def test_settings_that_contradict_it(tmp_path, settings, word):
    with pytest.raises(ConfigError, match=word):
        ForesightConfig(str(tmp_path), in_place=True, **{"policy": "static", **settings})
