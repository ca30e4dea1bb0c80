"""kill -9 at random moments, re-masks and checkpoint writes included: the resumed run is the uninterrupted one."""

import multiprocessing
import random
import shutil
import time

import torch
from safetensors.torch import load_file

from foresight.training import checkpoint
from foresight.training.config import ForesightConfig
from foresight.training.trainer import ForesightTrainer
from tiny import pairs, sentences, tiny, tiny_tokenizer

KILLS = 10


def train_to_the_end(folder):
    """Resume from the last complete checkpoint, or start afresh; what a user's restart loop would do."""
    torch.set_num_threads(1)
    args = ForesightConfig(
        output_dir=str(folder), use_cpu=True, bf16=False, activation_checkpointing=False, report_to="none",
        disable_tqdm=True, max_steps=30, per_device_train_batch_size=4, learning_rate=1e-2, seed=3, budget=0.2,
        probe_every=2, remask_every=2, probe_examples=6, watch_steps=4, save_strategy="steps", save_steps=1,
        save_total_limit=2,
    )  # fmt: skip
    trainer = ForesightTrainer(tiny(), args, sentences(), pairs(), processing_class=tiny_tokenizer())
    if checkpoint.last_complete(folder) is None:
        shutil.rmtree(folder, ignore_errors=True)
        trainer.train()
    else:
        trainer.train(resume_from_checkpoint=True)


def test_sigkill_at_random_moments(tmp_path):
    # The server imports everything once and forks a fresh child each time, before torch has started any thread.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["foresight.training.trainer", "tiny"])
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    seconds = 0.0
    for _ in range(2):  # the first start also pays for the imports
        shutil.rmtree(whole, ignore_errors=True)
        start = time.perf_counter()
        child = context.Process(target=train_to_the_end, args=(whole,))
        child.start()
        child.join()
        assert child.exitcode == 0
        seconds = time.perf_counter() - start
    delays, reached = random.Random(0), set()
    while len(reached) < KILLS:
        child = context.Process(target=train_to_the_end, args=(killed,))
        child.start()
        child.join(timeout=seconds * delays.uniform(0.3, 0.6))
        if child.exitcode == 0:
            break
        assert child.exitcode is None  # still running: an error would be a bug
        child.kill()
        child.join()
        last = checkpoint.last_complete(killed)
        reached.add(last.name if last else f"nothing after {len(reached)} kills")
    else:
        child = context.Process(target=train_to_the_end, args=(killed,))
        child.start()
        child.join()
    assert child.exitcode == 0 and len(reached) > 1
    expected, found = (load_file(folder / "delta" / "delta.safetensors") for folder in (whole, killed))
    assert expected.keys() == found.keys() and all(torch.equal(expected[k], found[k]) for k in expected)
    steps = [len(list((folder / "trajectory" / "snapshots").iterdir())) for folder in (whole, killed)]
    assert steps[0] == steps[1]
