"""kill -9 at random moments, re-masks and checkpoint writes included: the resumed run is the uninterrupted one."""

import random
import shutil
import time

import pytest
import torch
from safetensors.torch import load_file

from foresight.training import checkpoint
from foresight.training.config import ForesightConfig
from foresight.training.trainer import ForesightTrainer
from support.processes import forkserver
from support.tiny import pairs, sentences, tiny, tiny_tokenizer

STEPS = 20


def train_to_the_end(folder):
    """Resume from the last complete checkpoint, or start afresh; what a user's restart loop would do."""
    torch.set_num_threads(1)
    args = ForesightConfig(
        output_dir=str(folder), use_cpu=True, bf16=False, activation_checkpointing=False, report_to="none",
        disable_tqdm=True, max_steps=STEPS, per_device_train_batch_size=4, learning_rate=1e-2, seed=3, budget=0.2,
        probe_every=2, remask_every=2, probe_examples=6, policy_params={"watch_steps": 4},
        save_strategy="steps", save_steps=1, save_total_limit=2,
    )  # fmt: skip
    trainer = ForesightTrainer(tiny(), args, sentences(), pairs(), processing_class=tiny_tokenizer())
    if checkpoint.last_complete(folder) is None:
        shutil.rmtree(folder, ignore_errors=True)
        trainer.train()
    else:
        trainer.train(resume_from_checkpoint=True)


def newest(folder):
    """The step of the newest checkpoint, complete or not; 0 without one."""
    return max((int(path.name.split("-")[1]) for path in folder.glob("checkpoint-*")), default=0)


@pytest.mark.multi_process
def test_sigkill_at_random_moments(tmp_path):
    context = forkserver()
    whole, killed = tmp_path / "whole", tmp_path / "killed"

    def start(folder):
        child = context.Process(target=train_to_the_end, args=(folder,))
        child.start()
        return child

    child = start(whole)
    child.join()
    assert child.exitcode == 0
    chance, kills, goal = random.Random(0), 0, 0
    while (goal := goal + chance.randint(2, 5)) < STEPS:  # steps, not seconds: a busy machine must not decide
        child = start(killed)
        while child.is_alive() and newest(killed) < goal:
            time.sleep(0.002)
        time.sleep(chance.uniform(0, 0.05))
        assert child.exitcode in (None, 0)  # still running, or done: an error would be a bug
        kills += child.exitcode is None
        child.kill()
        child.join()
    assert kills > 3
    child = start(killed)
    child.join()
    assert child.exitcode == 0
    expected, found = (load_file(folder / "delta" / "delta.safetensors") for folder in (whole, killed))
    assert expected.keys() == found.keys() and all(torch.equal(expected[k], found[k]) for k in expected)
    steps = [len(list((folder / "trajectory" / "snapshots").iterdir())) for folder in (whole, killed)]
    assert steps[0] == steps[1]
