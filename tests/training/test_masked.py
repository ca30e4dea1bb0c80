"""A masked run is not bound to SFTTrainer: any trainer of transformers drives one by a short subclass."""

import pytest
import torch
from datasets import Dataset
from transformers import DataCollatorForLanguageModeling, Trainer

from foresight.training.config import target_of
from foresight.training.masked import MaskedTrainer, refuse
from foresight.training.run import Run
from support.runs import Stop, config, delta, same
from support.tiny import tiny, tiny_tokenizer, tokens


class Plain(MaskedTrainer, Trainer):
    def __init__(self, model, args, train_dataset, **kwargs):
        refuse(args, kwargs)
        super().__init__(model=model, args=args, train_dataset=train_dataset, **kwargs)
        run = Run(self.model, args, target_of(args))
        run.watch(self.train_dataset, None, self.processing_class)
        self.drive(run)


def trainer(folder, **settings):
    ids, tokenizer = tokens(24, 9, seed=1).tolist(), tiny_tokenizer()
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.unk_token
    return Plain(
        tiny(), config(folder, **settings), Dataset.from_dict({"input_ids": ids, "labels": ids}),
        processing_class=tokenizer, data_collator=DataCollatorForLanguageModeling(tokenizer, mlm=False),
    )  # fmt: skip


@pytest.mark.parametrize(
    "settings",
    [dict(policy="reactive"), dict(policy="probing", scout_share=0.3), dict(policy="random", granularity="weights")],
    ids=lambda given: given["policy"],
)
def test_only_what_was_in_a_mask_changes_and_a_resumed_run_is_the_whole_one(tmp_path, settings):
    settings |= dict(save_strategy="steps", save_steps=4, max_steps=8)
    before = tiny().state_dict()
    whole = trainer(tmp_path / "whole", **settings)
    whole.train()
    ids, _ = whole.run.bank.changed()
    touched = {f"{target.module}.weight" for target, _ in whole.run.numbers.by_target(ids)}
    merged = whole.run.bank.merged_state_dict()
    assert {name for name in before if not torch.equal(before[name], merged[name])} == touched
    broken = trainer(tmp_path / "broken", **settings)
    broken.add_callback(Stop(6))
    with pytest.raises(RuntimeError, match="power cut"):
        broken.train()
    trainer(tmp_path / "broken", **settings).train(resume_from_checkpoint=True)
    assert same(delta(tmp_path / "whole"), delta(tmp_path / "broken"))
