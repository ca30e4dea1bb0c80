import copy
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from datasets import Dataset
from peft import get_peft_model
from trl import DPOConfig, DPOTrainer
from trl.trainer.dpo_trainer import DataCollatorForPreference

from foresight.common.errors import NonFiniteError
from foresight.model.components import component_table
from foresight.studies.evidence.align import IPOTrainer, arguments, lora
from foresight.studies.evidence.edit import NAME, AdapterEdit, RankOneEdit
from foresight.studies.evidence.localizers import head_names, head_taps
from foresight.studies.evidence.measures import score_answers
from support.evidence_cases import many_heads, questions
from support.tiny import tiny, tiny_tokenizer

MORE = {"logging_strategy": "no"}
RIGHT, WRONG = (" w7 w8", " w10"), (" w9", " w11 w12", " w13")


def several(n=8):
    """Questions with two right and three wrong answers each."""
    return tuple(replace(q, right=RIGHT, wrong=WRONG) for q in questions(n))


def texts_of(asked):
    return [(q.prompt, answer) for q in asked for answer, _ in q.answers]


def mean_log_p(model, tokenizer, asked):
    lengths = [len(answer.split()) for _, answer in texts_of(asked)]
    return score_answers(model, tokenizer, texts_of(asked)).log_probability / lengths


def margins(model, tokenizer, asked):
    """log-probability per token of every right answer minus that of every wrong one of its question, all pairs."""
    values, found = iter(mean_log_p(model, tokenizer, asked)), []
    for q in asked:
        right, wrong = ([next(values) for _ in of] for of in (q.right, q.wrong))
        found += [a - b for a in right for b in wrong]
    return np.array(found)


def test_loss_is_the_formula_by_hand(tmp_path):
    model, table, tokenizer = many_heads()
    asked, tau = several(), 0.3
    before = margins(model, tokenizer, asked)
    edit = RankOneEdit(model, table, ["L0.head.0", "L2.head.5"])
    trainer = IPOTrainer(model, tokenizer, asked, arguments(tmp_path, 1e-3, batch_size=8, more=MORE), tau, edit)
    inputs = next(iter(trainer.get_train_dataloader()))
    assert trainer.compute_loss(model, inputs).item() == pytest.approx((1 / (2 * tau)) ** 2, abs=1e-5)
    for layer in edit.layers:  # the reference was taken before this, and stays
        torch.nn.init.normal_(layer.b)
    margin = margins(model, tokenizer, asked) - before
    assert np.abs(margin).max() > 0.01
    by_hand = ((margin - 1 / (2 * tau)) ** 2).mean()
    assert trainer.compute_loss(model, inputs).item() == pytest.approx(by_hand, rel=1e-4)


def test_every_pair_counts_the_same(tmp_path):
    """A question of six pairs weighs six times as much as one of a single pair, in whatever batches."""
    model, table, tokenizer = many_heads()
    asked = (*several(3), *questions(6)[3:])
    edit = RankOneEdit(model, table, ["L0.head.0", "L2.head.5"])
    before = margins(model, tokenizer, asked)
    losses = []
    for size in (1, 6):
        trainer = IPOTrainer(model, tokenizer, asked, arguments(tmp_path, 1e-3, 2, size, MORE), 0.5, edit)
        for layer in edit.layers:
            torch.nn.init.constant_(layer.b, 0.5)
        losses.append(np.mean([trainer.compute_loss(model, batch).item() for batch in trainer.get_train_dataloader()]))
        after = margins(model, tokenizer, asked)
        for layer in edit.layers:
            torch.nn.init.zeros_(layer.b)
    assert len(after) == 3 * 6 + 3
    assert losses == pytest.approx([((after - before - 1) ** 2).mean()] * 2, rel=1e-4)


def test_single_pairs_are_trained_as_trl_trains_them(tmp_path):
    """TRL's DPOTrainer with the loss `ipo` takes the same steps, but for its end-of-sequence tokens."""
    model, table, tokenizer = many_heads()
    asked = questions(16)
    rows = Dataset.from_list([{"prompt": q.prompt, "chosen": q.right[0], "rejected": q.wrong[0]} for q in asked])
    mine = RankOneEdit(model, table, head_names(table)[-8:])
    IPOTrainer(model, tokenizer, asked, arguments(tmp_path, 0.05, 3, 4, MORE), 0.5, mine).train()
    model, table, tokenizer = many_heads()
    theirs = RankOneEdit(model, table, head_names(table)[-8:])
    how = dict(vars(arguments(tmp_path, 0.05, 3, 4, MORE)))
    kept = ("learning_rate", "lr_scheduler_type", "num_train_epochs", "per_device_train_batch_size", "seed", "use_cpu",
            "save_strategy", "report_to", "disable_tqdm", "logging_strategy")  # fmt: skip
    DPOTrainer(
        model=model, train_dataset=rows, processing_class=tokenizer, data_collator=WithoutEnd(pad_token_id=0),
        args=DPOConfig(output_dir=str(tmp_path), loss_type="ipo", beta=0.5, precompute_ref_log_probs=True, bf16=False,
                       gradient_checkpointing=False, **{name: how[name] for name in kept}),
    ).train()  # fmt: skip
    for a, b in zip(mine.layers, theirs.layers, strict=True):
        assert b.b.abs().max() > 0.05
        torch.testing.assert_close(a.b, b.b, rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(a.a, b.a, rtol=1e-3, atol=1e-4)


class WithoutEnd(DataCollatorForPreference):
    """Removes the token that DPOTrainer appends to every answer."""

    def torch_call(self, examples):
        return super().torch_call([e | {key: e[key][:-1] for key in ("chosen_ids", "rejected_ids")} for e in examples])


def test_a_given_reference_is_used_as_it_is_computed(tmp_path):
    """Bit for bit: a study computes the reference once, and its edits come out as if each had computed it."""
    found = []
    for given in (False, True):
        model, table, tokenizer = many_heads()
        how = arguments(tmp_path, 0.05, 1, 4, MORE)
        reference = None
        if given:
            reference = json.loads(json.dumps(IPOTrainer(model, tokenizer, several(), how, 0.9).log_p.tolist()))
            assert max(reference) < 0
        edit = RankOneEdit(model, table, head_names(table)[:5])
        IPOTrainer(model, tokenizer, several(), how, 0.5, edit, reference).train()
        found.append(edit.state_dict())
    assert found[0].keys() == found[1].keys() and all(torch.equal(found[0][name], found[1][name]) for name in found[0])


def test_training_changes_nothing_but_the_edit_and_reaches_its_aim(tmp_path):
    model, table, tokenizer = many_heads()
    frozen = {name: p.clone() for name, p in model.named_parameters()}
    asked = questions(32)
    edit = RankOneEdit(model, table, head_names(table)[-8:])
    IPOTrainer(model, tokenizer, asked, arguments(tmp_path, 0.1, 8, 8, MORE), 0.5, edit).train()
    for name, value in model.named_parameters():
        assert NAME in name or torch.equal(value, frozen[name])
    with edit.off():
        before = margins(model, tokenizer, asked)
    assert (margins(model, tokenizer, asked) - before).mean() == pytest.approx(1 / (2 * 0.5), abs=0.3)


def test_on_all_heads_it_is_the_lora_of_peft_where_the_projection_is_the_identity(tmp_path):
    """W b a^T with W = 1 is LoRA's B A, gradients included: the two runs take the same steps."""
    model, table, tokenizer = many_heads()
    with torch.no_grad():
        for name in head_taps(table, head_names(table)):
            model.get_submodule(name).weight.copy_(torch.eye(32))
    twin, asked = copy.deepcopy(model), questions(16)
    how = arguments(tmp_path, 0.02, epochs=3, batch_size=8, more=MORE)
    edit = RankOneEdit(model, table, head_names(table))
    twin = get_peft_model(twin, lora(twin, table))
    adapted = IPOTrainer(twin, tokenizer, asked, how, 0.3, AdapterEdit(twin))
    projections = [m for m in twin.modules() if hasattr(m, "lora_A") and len(m.lora_A)]
    assert len(projections) == len(edit.layers) == 3
    with torch.no_grad():
        for layer, projection in zip(edit.layers, projections, strict=True):
            projection.lora_A["default"].weight.copy_(layer.a[None])
    adapted.train()
    IPOTrainer(model, tokenizer, asked, how, 0.3, edit).train()
    for layer, projection in zip(edit.layers, projections, strict=True):
        assert layer.b.abs().max() > 0.01
        torch.testing.assert_close(projection.lora_B["default"].weight[:, 0], layer.b, rtol=1e-3, atol=1e-5)
        torch.testing.assert_close(projection.lora_A["default"].weight[0], layer.a, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_lora_trains_rank_one_on_every_projection_and_can_be_switched_off(family, tmp_path):
    model, tokenizer = tiny(family), tiny_tokenizer()
    table, asked = component_table(model), questions(8)
    texts = texts_of(asked)
    before = score_answers(model, tokenizer, texts).log_probability
    adapted = get_peft_model(model, lora(model, table))
    intervention = AdapterEdit(adapted)
    IPOTrainer(adapted, tokenizer, asked, arguments(tmp_path, 0.05, batch_size=4, more=MORE), 0.3, intervention).train()
    found = score_answers(adapted, tokenizer, texts, intervention, range(len(texts)))
    assert (found.log_probability != before).all() and (found.divergence > 0).all()
    with intervention.off():
        assert (score_answers(adapted, tokenizer, texts).log_probability == before).all()
    trained = [p for p in adapted.parameters() if p.requires_grad]
    assert len(trained) == 2 * 2 and {min(p.shape) for p in trained} == {1}


def test_chance_plays_no_part(tmp_path):
    model, tokenizer = tiny("gpt2", resid_pdrop=0.5, embd_pdrop=0.5, attn_pdrop=0.5), tiny_tokenizer()
    trainer = IPOTrainer(model, tokenizer, questions(4), arguments(tmp_path, 0.01, more=MORE), 0.3)
    model.train()
    assert trainer.reference() == trainer.reference() == trainer.log_p.tolist()


def test_diverging_run_stops(tmp_path):
    model, table, tokenizer = many_heads()
    with torch.no_grad():
        model.lm_head.weight.fill_(float("nan"))
    edit = RankOneEdit(model, table, ["L0.head.0"])
    how = arguments(tmp_path, 1e-3, more=MORE)
    with pytest.raises(NonFiniteError, match="learning_rate"):
        IPOTrainer(model, tokenizer, questions(4), how, 0.3, edit).train()
