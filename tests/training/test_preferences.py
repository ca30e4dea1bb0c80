"""Preference tuning: the mask acts as in SFT, the reference is the model as it began, and runs resume."""

import math

import pytest
import torch
from datasets import Dataset
from trl import DPOConfig, DPOTrainer

from foresight import ForesightConfig, ForesightDPOConfig, ForesightDPOTrainer, ForesightTrainer
from foresight.bank.base_weights import is_bank_key
from foresight.bank.delta import apply_delta
from foresight.common.errors import ConfigError
from foresight.training.masked import MaskedTrainer
from support.runs import Stop
from support.tiny import sentences, tiny, tiny_tokenizer, tokens

COMMON = dict(
    use_cpu=True, bf16=False, report_to="none", disable_tqdm=True, max_steps=6, per_device_train_batch_size=4,
    learning_rate=1e-2, activation_checkpointing=False, logging_steps=1, save_steps=2, seed=3, max_length=16,
    lr_scheduler_type="constant", precompute_ref_log_probs=True,
)  # fmt: skip
MASK = dict(budget=0.2, policy="reactive", remask_every=2, probe_examples=8)


def preferences(rows=24):
    """The answer repeats the prompt's first word; the rejected one its last."""
    words = [row["prompt"].split() for row in sentences(rows)]
    return Dataset.from_list([{"prompt": " ".join(w), "chosen": f" {w[0]}", "rejected": f" {w[-1]}"} for w in words])


def trainer(folder, model=None, **settings):
    args = ForesightDPOConfig(str(folder), **{**COMMON, **MASK, **settings})
    return ForesightDPOTrainer(model or tiny(), args, preferences(), processing_class=tiny_tokenizer())


def run(folder, **settings):
    made = trainer(folder, **settings)
    made.train()
    return made


@pytest.mark.parametrize("accumulation", [1, 2])
def test_full_policy_equals_dpo_of_the_same_matrices(tmp_path, accumulation):
    full = dict.fromkeys(("remask_every", "probe_examples"))
    ours = run(tmp_path / "ours", policy="full", **full, budget=0.05, gradient_accumulation_steps=accumulation)
    model = tiny().requires_grad_(False)
    for target in ours.run.table.targets:
        model.get_submodule(target.module).weight.requires_grad_(True)
    args = DPOConfig(str(tmp_path / "dpo"), gradient_accumulation_steps=accumulation, **COMMON)
    DPOTrainer(model=model, args=args, train_dataset=preferences(), processing_class=tiny_tokenizer()).train()
    merged = ours.run.bank.merged_state_dict()
    for name, weight in model.state_dict().items():
        # Adam divides by the root of tiny second moments: a last-bit difference in a gradient can move a weight by lr.
        assert (merged[name] - weight).abs().max() < 2e-3 and (merged[name] - weight).abs().mean() < 1e-5, name


@pytest.mark.parametrize("granularity", ["components", "vectors"])
def test_the_mask_moves_what_it_holds_and_nothing_else(tmp_path, granularity):
    done = run(tmp_path, granularity=granularity, max_steps=36, remask_every=12)
    bank, before = done.run.bank, tiny().state_dict()
    held = {s.module for _, mask in done.run.schedule.entries for i in mask.components
            for s in done.run.table.components[i].slices}  # fmt: skip
    for name, weight in bank.merged_state_dict().items():
        if not is_bank_key(name) and name.removesuffix(".weight") not in held:
            assert torch.equal(weight, before[name]), name
    bank.base.verify()
    assert done.run.trajectory.steps.tolist() == [0, 12, 24]
    changed = apply_delta(tiny(), tmp_path / "delta")
    assert torch.allclose(changed(tokens()).logits, done.model(tokens()).logits, atol=1e-4)
    losses = [entry["loss"] for entry in done.state.log_history if "loss" in entry]
    assert losses[0] == pytest.approx(math.log(2), abs=1e-3) and sum(losses[-6:]) / 6 < losses[0] - 0.02


def test_the_reference_is_the_model_as_it_began(tmp_path):
    """At a rate of zero nothing is preferred, whatever the mask."""
    done = run(tmp_path, learning_rate=0.0)
    losses = [entry["loss"] for entry in done.state.log_history if "loss" in entry]
    assert losses == pytest.approx([math.log(2)] * 6, abs=1e-5)


def test_a_resumed_run_is_the_uninterrupted_one(tmp_path):
    whole, broken = run(tmp_path / "whole"), trainer(tmp_path / "run")
    broken.add_callback(Stop(3))
    with pytest.raises(RuntimeError, match="power cut"):
        broken.train()
    resumed = trainer(tmp_path / "run")
    resumed.train(resume_from_checkpoint=True)
    assert resumed.run.schedule.entries == whole.run.schedule.entries
    for one, other in zip(resumed.run.bank.changed(), whole.run.bank.changed(), strict=True):
        assert torch.equal(one, other)


def test_other_preferences_are_another_run(tmp_path):
    broken = trainer(tmp_path)
    broken.add_callback(Stop(3))
    with pytest.raises(RuntimeError, match="power cut"):
        broken.train()
    args = ForesightDPOConfig(str(tmp_path), **{**COMMON, **MASK})
    turned = preferences().rename_columns({"chosen": "rejected", "rejected": "chosen"})
    other = ForesightDPOTrainer(tiny(), args, turned, processing_class=tiny_tokenizer())
    with pytest.raises(Exception, match="training rows"):
        other.train(resume_from_checkpoint=True)


def test_what_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="replay_share needs retained rows"):
        ForesightDPOConfig(str(tmp_path), use_cpu=True, replay_share=0.1)
    with pytest.raises(ConfigError, match="did you mean|budget is 3"):
        ForesightDPOConfig(str(tmp_path), use_cpu=True, budget=3)
    sft = ForesightConfig(str(tmp_path), use_cpu=True, bf16=False)
    with pytest.raises(ConfigError, match="args is a ForesightConfig; expected a ForesightDPOConfig"):
        ForesightDPOTrainer(tiny(), sft, preferences(), processing_class=tiny_tokenizer())
    with pytest.raises(ConfigError, match="args is a ForesightDPOConfig; expected a ForesightConfig"):
        args = ForesightDPOConfig(str(tmp_path), **{**COMMON, **MASK})
        ForesightTrainer(tiny(), args, sentences(), processing_class=tiny_tokenizer())
    grpo = type("MaskedGRPO", (MaskedTrainer, type("GRPOTrainer", (), {})), {})
    with pytest.raises(ConfigError, match="GRPOTrainer is not supported"):
        MaskedTrainer.drive(grpo.__new__(grpo), None)
