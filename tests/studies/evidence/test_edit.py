import json

import pytest
import torch
from safetensors import safe_open
from torch import nn

from foresight.common.errors import ConfigError
from foresight.model.components import component_table, stored_transposed
from foresight.studies.evidence.edit import NAME, RankOneEdit, Steering
from foresight.studies.evidence.localizers import head_names, head_taps
from support.evidence_cases import many_heads
from support.tiny import FAMILIES, tiny, tokens

HEADS = ("L0.head.1", "L1.head.0", "L1.head.3")


def edited(family="llama", heads=HEADS, read="all", **changes):
    """A model with an edit that does something, and its logits before."""
    model = tiny(family, **changes)
    before = model(tokens()).logits.detach()
    edit = RankOneEdit(model, component_table(model), heads, read)
    for layer in edit.layers:
        nn.init.normal_(layer.b)
    return model, edit, before


def logits(model):
    with torch.no_grad():
        return model(tokens()).logits


def merged(edit, family="llama", **changes):
    """A stock model whose output projections have the weight W + W b a^T."""
    model = tiny(family, **changes)
    for name, layer in zip(head_taps(component_table(model), edit.heads), edit.layers, strict=True):
        module = model.get_submodule(name)
        weight = module.weight.T if stored_transposed(module) else module.weight
        weight.data += weight.data @ torch.outer(layer.writing, layer.reading).detach()
    return model


@pytest.mark.parametrize("read", ["all", "heads"])
@pytest.mark.parametrize("family", FAMILIES)
def test_it_is_a_change_w_b_a_of_the_weight_and_switched_off_it_is_the_base(family, read):
    model, edit, before = edited(family, read=read)
    after = logits(model)
    assert not torch.allclose(after, before, atol=1e-3)
    with edit.off():
        assert torch.equal(logits(model), before)
    assert torch.equal(logits(model), after)
    torch.testing.assert_close(logits(merged(edit, family)), after, rtol=1e-4, atol=1e-4)


def test_new_edit_changes_nothing():
    model = tiny()
    before = logits(model)
    RankOneEdit(model, component_table(model), HEADS)
    assert torch.equal(logits(model), before)


@pytest.mark.parametrize("read", ["all", "heads"])
def test_b_writes_at_the_heads_alone_and_a_reads_where_it_may(read):
    model, edit, _ = edited(read=read)
    for layer, taps in zip(edit.layers, head_taps(component_table(model), HEADS).values(), strict=True):
        chosen = torch.zeros(layer.width, dtype=torch.bool)
        for tap in taps:
            chosen[tap.start : tap.stop] = True
        assert not layer.writing[~chosen].any() and layer.writing[chosen].all()
        assert layer.reading.bool().tolist() == (chosen.tolist() if read == "heads" else [True] * layer.width)


def test_a_bias_plays_no_part():
    """GPT-2's projections have biases; they are the same in the edited and in the merged model, whatever they are."""
    model, edit, _ = edited("gpt2")
    stock = merged(edit, "gpt2")
    for one in (model, stock):
        for block in one.transformer.h:
            block.attn.c_proj.bias.data.fill_(0.5)
    torch.testing.assert_close(logits(stock), logits(model), rtol=1e-4, atol=1e-4)


def test_gradients_reach_the_edit_alone():
    model, edit, _ = edited()
    model(tokens(), labels=tokens()).loss.backward()
    with_gradient = {name for name, p in model.named_parameters() if p.grad is not None}
    assert with_gradient == {f"{NAME}.{name}" for name, _ in edit.named_parameters()}
    assert all(p.grad.abs().sum() > 0 for p in edit.parameters())
    assert {name for name, p in model.named_parameters() if p.requires_grad} == with_gradient


def test_a_saved_edit_names_its_heads(tmp_path):
    _, edit, _ = edited(read="heads")
    edit.save(tmp_path / "edit.safetensors")
    with safe_open(tmp_path / "edit.safetensors", "pt") as file:
        assert file.metadata() == {"heads": json.dumps(HEADS), "read": "heads"}
        for name, value in edit.state_dict().items():
            assert torch.equal(file.get_tensor(name), value)


@pytest.mark.parametrize(
    "heads, match", [((), "at least one"), (("L0.head.1",) * 2, "each once"), (("L9.head.1",), "unknown head"),
                     (("L0.mlp.0",), "unknown head")]
)  # fmt: skip
def test_heads_that_are_none_are_refused(heads, match):
    model = tiny()
    with pytest.raises(ConfigError, match=match):
        RankOneEdit(model, component_table(model), heads)
    assert not hasattr(model, NAME)


def test_bf16_model_keeps_its_dtype():
    model, _, _ = edited(dtype=torch.bfloat16)
    assert logits(model).dtype == torch.bfloat16


def test_shift_acts_from_the_first_answering_position_on():
    model, table, _ = many_heads()
    before = logits(model)
    steering = Steering(model, table, {"L1.head.2": torch.ones(4)})
    first = torch.tensor([3, 7, 11, 0])
    with steering.answering(first):
        after = logits(model)
    for row, start in enumerate(first.tolist()):
        assert torch.equal(after[row, :start], before[row, :start])
        assert (after[row, start:] != before[row, start:]).any(-1).all()
    with steering.off():
        assert torch.equal(logits(model), before)


def test_shift_while_generating_is_the_shift_of_given_answers():
    model, table, _ = many_heads()
    steering = Steering(model, table, {name: torch.full((4,), 0.7) for name in head_names(table)[::3]})
    prompts = tokens(3, 6)
    out = model.generate(prompts, max_new_tokens=5, do_sample=False, pad_token_id=0, eos_token_id=[])
    with steering.answering(torch.full((3,), 5)), torch.no_grad():
        given = model(out).logits[:, 5:-1].argmax(-1)
    assert torch.equal(given, out[:, 6:])
    with steering.off():
        assert not torch.equal(model.generate(prompts, max_new_tokens=5, do_sample=False, pad_token_id=0), out)
