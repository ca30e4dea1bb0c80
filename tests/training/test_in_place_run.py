"""Runs whose vectors are in the weights: those of the bank beside them, resumed bit for bit, and exported alike."""

import shutil
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from foresight.bank import InPlaceBank
from foresight.common.errors import ConfigError
from foresight.training.config import ForesightConfig
from foresight.training.memory import Sharding, Sizes, memory
from foresight.training.trainer import ForesightTrainer
from support.tiny import pairs, sentences, tiny, tiny_tokenizer, tokens

SETTINGS = dict(
    use_cpu=True, bf16=False, activation_checkpointing=False, report_to="none", disable_tqdm=True, max_steps=9,
    per_device_train_batch_size=4, learning_rate=1e-2, adam_epsilon=1e-5, seed=3, budget=0.2, probe_every=3,
    remask_every=3, watch_steps=3, probe_examples=6, save_strategy="steps", save_steps=4,
)  # fmt: skip

SIZES = Sizes(1000, 4, 100, 800, 10, 16, 5000, 0, False)


def trainer(folder, model=None, **settings):
    return ForesightTrainer(
        model=model or tiny(),
        args=ForesightConfig(output_dir=str(folder), **SETTINGS | settings),
        train_dataset=sentences(),
        contrast_dataset=pairs(),
        processing_class=tiny_tokenizer(),
    )


def delta(folder):
    return load_file(folder / "delta" / "delta.safetensors")


@pytest.mark.parametrize("settings", [{"policy": "static"}, {"policy": "random", "redraw": True}, {"policy": "full"}])
def test_a_run_in_place_is_the_run_beside_the_weights(tmp_path, settings):
    logits = []
    for name, in_place in (("beside", False), ("inside", True)):
        run = trainer(tmp_path / name, in_place=in_place, **settings)
        run.train()
        logits.append(run.model.eval()(tokens()).logits)
        assert isinstance(run.bank, InPlaceBank) == in_place
    beside, inside = delta(tmp_path / "beside"), delta(tmp_path / "inside")
    assert beside.keys() == inside.keys() and len(beside)
    for name in beside:
        torch.testing.assert_close(inside[name], beside[name], rtol=0, atol=1e-3, msg=name)
    torch.testing.assert_close(*logits, rtol=0, atol=1e-2)


@pytest.mark.parametrize("policy", ["reactive", "utility"])
def test_a_resumed_run_is_the_uninterrupted_one(tmp_path, policy):
    run = trainer(tmp_path / "whole", in_place=True, policy=policy)
    run.train()
    shutil.copytree(tmp_path / "whole", tmp_path / "resumed")
    again = trainer(tmp_path / "resumed", in_place=True, policy=policy)
    again.train(resume_from_checkpoint=str(tmp_path / "resumed" / "checkpoint-4"))
    whole, resumed = delta(tmp_path / "whole"), delta(tmp_path / "resumed")
    assert whole.keys() == resumed.keys() and all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_the_plan_counts_the_weights_that_are_put_aside():
    planned = [memory(replace(SIZES, in_place=in_place), Sharding(0)).device.peak for in_place in (False, True)]
    assert planned[1] - planned[0] == 4 * SIZES.bank


def test_a_model_in_bfloat16_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="in_place"):
        trainer(tmp_path, model=tiny(dtype=torch.bfloat16), in_place=True)
