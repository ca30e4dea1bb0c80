"""A shift is added, nothing else changes, and nothing of it is left behind."""

import pytest
import torch

from foresight.bank import Bank
from foresight.common.errors import ConfigError
from foresight.forecasters.single_weights.shift import in_float32, shifted
from foresight.masks.masks import Mask
from foresight.model.components import component_table
from support.tiny import FAMILIES, tiny, tokens
from support.weight_cases import a_shift, bits, same


def moved(model, shift, factor=1.0):
    """The same, written into the weights."""
    for name, delta in shift.items():
        module = model.get_submodule(name)
        module.weight.data += factor * (delta.T if type(module).__name__ == "Conv1D" else delta)
    return model


def logits(model, dtype=torch.float32):
    with torch.no_grad():
        return model(tokens()).logits.to(dtype)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_shifted_model_is_the_moved_one_and_comes_back(family):
    model = tiny(family)
    shift, before = a_shift(model), bits(model)
    expected = logits(moved(tiny(family), shift, 1.5))
    with shifted(model, shift, 1.5):
        assert torch.allclose(logits(model), expected, atol=1e-5)
    assert same(before, model) and not torch.allclose(logits(model), expected, atol=1e-3)


def test_contexts_add_up():
    model = tiny()
    shift, other, before = a_shift(model), a_shift(model, seed=2), bits(model)
    expected = logits(moved(moved(tiny(), shift, 0.5), other, -2.0))
    with shifted(model, shift, 0.5):
        with shifted(model, other, -2.0):
            assert torch.allclose(logits(model), expected, atol=1e-5)
        assert torch.allclose(logits(model), logits(moved(tiny(), shift, 0.5)), atol=1e-5)
    assert same(before, model)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_weights_come_back_after_an_exception(dtype):
    model = tiny(dtype=dtype)
    shift, before = a_shift(model), bits(model)
    with pytest.raises(RuntimeError, match="power cut"), in_float32(model), shifted(model, shift):
        raise RuntimeError("power cut")
    assert same(before, model)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_bank_in_use_comes_on_top(dtype):
    model = tiny(dtype=dtype)
    bank = Bank(model, component_table(model), 400)
    bank.remask(Mask((0, 3, 5)))
    with torch.no_grad():
        bank.vectors.normal_(0, 0.1, generator=torch.Generator().manual_seed(4))
    read, shift, before = bank.weights(), a_shift(model), bits(model)
    plain = tiny(dtype=dtype).float()
    for target in bank.table.targets:
        plain.get_submodule(target.module).weight.data = read(target.module).contiguous()
    expected = logits(moved(plain, shift))
    with in_float32(model), shifted(model, shift):
        assert torch.allclose(logits(model), expected, atol=1e-4)
    assert same(before, model)
    bank.base.verify()


def test_a_small_shift_of_bfloat16_weights_counts_in_float32_and_is_refused_otherwise():
    model = tiny(dtype=torch.bfloat16)
    shift, before = a_shift(model, size=1e-5), bits(model)
    with (
        pytest.raises(ConfigError, match=r"bfloat16, in which a small shift is lost; .* `in_float32"),
        shifted(model, shift),
    ):
        pass
    with in_float32(model):
        assert {p.dtype for p in model.parameters()} == {torch.float32}
        start = logits(model)
        with shifted(model, shift):
            first = logits(model) - start
        with shifted(model, shift, 2.0):
            second = logits(model) - start
    assert same(before, model) and logits(model, torch.bfloat16).dtype == torch.bfloat16
    assert 0 < first.abs().max() < 0.1 and torch.allclose(second, 2 * first, atol=0.1 * first.abs().max())
    assert torch.equal(moved(tiny(dtype=torch.bfloat16), shift).lm_head.weight, model.lm_head.weight)


def test_float32_models_stay_as_they_are_in_float32():
    model = tiny()
    before = bits(model)
    with in_float32(model):
        assert same(before, model)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda shift: shift | {"model.layers.9.mlp.up_proj": torch.zeros(48, 32)},
            "'model.layers.9.mlp.up_proj', a w",
        ),
        (lambda shift: shift | {"model.norm.nothing": torch.zeros(3)}, "a weight that this model lacks"),
        (lambda shift: shift | {"model.layers.1.mlp.up_proj": torch.zeros(32, 48)}, r"\(32, 48\); expected \(48, 32\)"),
    ],
)
def test_a_shift_that_does_not_fit_changes_nothing(change, message):
    model = tiny()
    before = bits(model)
    with pytest.raises(ConfigError, match=message), shifted(model, change(a_shift(model))):
        pytest.fail("entered with a shift that does not fit")
    assert same(before, model)


def test_sharded_weights_are_refused():
    model = tiny()
    shift = a_shift(model)
    model.get_submodule(next(iter(shift))).weight.ds_id = 0
    with pytest.raises(ConfigError, match="sharded by ZeRO 3"), shifted(model, shift):
        pass
