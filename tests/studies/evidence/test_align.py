import copy

import pytest
import torch
from datasets import Dataset

from foresight.common.errors import NonFiniteError
from foresight.model.components import component_table
from foresight.studies.evidence.align import IPOTrainer, arguments, lora
from foresight.studies.evidence.edit import NAME, AdapterEdit, RankOneEdit
from foresight.studies.evidence.localizers import head_names, head_taps
from foresight.studies.evidence.measures import score_answers
from foresight.studies.evidence.preferences import preferences
from support.evidence_cases import many_heads, questions

MORE = {"logging_strategy": "no"}


def rows(n=8):
    """Answers of different lengths, on both sides."""
    prompts = [q.prompt for q in questions(n)]
    return Dataset.from_list(
        [{"prompt": p, "chosen": " w7 w8" if i % 2 else " w7", "rejected": " w9"} for i, p in enumerate(prompts)]
    )


def mean_log_p(model, tokenizer, column, table_rows):
    texts = list(zip(table_rows["prompt"], table_rows[column], strict=True))
    lengths = torch.tensor([len(answer.split()) for _, answer in texts])
    return torch.from_numpy(score_answers(model, tokenizer, texts).log_probability) / lengths


def test_loss_is_the_formula_by_hand(tmp_path):
    model, table, tokenizer = many_heads()
    data, tau = rows(), 0.3
    before = {side: mean_log_p(model, tokenizer, side, data) for side in ("chosen", "rejected")}
    edit = RankOneEdit(model, table, ["L0.head.0", "L2.head.5"])
    trainer = IPOTrainer(model, tokenizer, data, arguments(tmp_path, tau, 1e-3, batch_size=8, more=MORE), edit)
    inputs = next(iter(trainer.get_train_dataloader()))
    assert trainer.compute_loss(model, inputs).item() == pytest.approx((1 / (2 * tau)) ** 2, abs=1e-5)
    for layer in edit.layers:  # the reference was taken before this, and stays
        torch.nn.init.normal_(layer.b)
    after = {side: mean_log_p(model, tokenizer, side, data) for side in ("chosen", "rejected")}
    margin = (after["chosen"] - before["chosen"]) - (after["rejected"] - before["rejected"])
    assert margin.abs().max() > 0.01
    by_hand = ((margin - 1 / (2 * tau)) ** 2).mean().item()
    assert trainer.compute_loss(model, inputs).item() == pytest.approx(by_hand, rel=1e-4)


def test_training_changes_nothing_but_the_edit_and_reaches_its_aim(tmp_path):
    model, table, tokenizer = many_heads()
    frozen = {name: p.clone() for name, p in model.named_parameters()}
    data = preferences(questions(32))
    edit = RankOneEdit(model, table, head_names(table)[-8:])
    IPOTrainer(model, tokenizer, data, arguments(tmp_path, 0.5, 0.1, 8, 8, MORE), edit).train()
    for name, value in model.named_parameters():
        assert NAME in name or torch.equal(value, frozen[name])
    with edit.off():
        before = mean_log_p(model, tokenizer, "chosen", data) - mean_log_p(model, tokenizer, "rejected", data)
    after = mean_log_p(model, tokenizer, "chosen", data) - mean_log_p(model, tokenizer, "rejected", data)
    assert (after - before).mean().item() == pytest.approx(1 / (2 * 0.5), abs=0.3)


def test_on_all_heads_it_is_the_lora_of_peft_where_the_projection_is_the_identity(tmp_path):
    """W b a^T with W = 1 is LoRA's B A, gradients included: the two runs take the same steps."""
    model, table, tokenizer = many_heads()
    with torch.no_grad():
        for name in head_taps(table, head_names(table)):
            model.get_submodule(name).weight.copy_(torch.eye(32))
    twin, data = copy.deepcopy(model), preferences(questions(16))
    how = arguments(tmp_path, 0.3, 0.02, epochs=3, batch_size=8, more=MORE)
    edit = RankOneEdit(model, table, head_names(table))
    adapted = IPOTrainer(twin, tokenizer, data, how, peft_config=lora(twin, table))
    projections = [m for m in adapted.model.modules() if hasattr(m, "lora_A") and len(m.lora_A)]
    assert len(projections) == len(edit.layers) == 3
    with torch.no_grad():
        for layer, projection in zip(edit.layers, projections, strict=True):
            projection.lora_A["default"].weight.copy_(layer.a[None])
    adapted.train()
    IPOTrainer(model, tokenizer, data, how, edit).train()
    for layer, projection in zip(edit.layers, projections, strict=True):
        assert layer.b.abs().max() > 0.01
        torch.testing.assert_close(projection.lora_B["default"].weight[:, 0], layer.b, rtol=1e-3, atol=1e-5)
        torch.testing.assert_close(projection.lora_A["default"].weight[0], layer.a, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_lora_trains_rank_one_on_every_projection_and_can_be_switched_off(family, tmp_path):
    from support.tiny import tiny, tiny_tokenizer

    model, tokenizer = tiny(family), tiny_tokenizer()
    table, data = component_table(model), preferences(questions(8))
    texts = list(zip(data["prompt"], data["chosen"], strict=True))
    before = score_answers(model, tokenizer, texts).log_probability
    how = arguments(tmp_path, 0.3, 0.05, batch_size=4, more=MORE)
    trainer = IPOTrainer(model, tokenizer, data, how, peft_config=lora(model, table))
    trainer.train()
    adapted, intervention = trainer.model, AdapterEdit(trainer.model)
    found = score_answers(adapted, tokenizer, texts, intervention, divergence=True)
    assert (found.log_probability != before).all() and (found.divergence > 0).all()
    with intervention.off():
        assert (score_answers(adapted, tokenizer, texts).log_probability == before).all()
    trained = [p for p in adapted.parameters() if p.requires_grad]
    assert len(trained) == 2 * 2 and {min(p.shape) for p in trained} == {1}


def test_diverging_run_stops(tmp_path):
    model, table, tokenizer = many_heads()
    with torch.no_grad():
        model.lm_head.weight.fill_(float("nan"))
    edit = RankOneEdit(model, table, ["L0.head.0"])
    how = arguments(tmp_path, 0.3, 1e-3, more=MORE)
    with pytest.raises(NonFiniteError, match="learning_rate"):
        IPOTrainer(model, tokenizer, preferences(questions(4)), how, edit).train()
