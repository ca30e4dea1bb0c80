"""Two processes under ZeRO time passes together, and choose the masks that their limits leave."""

import json
import os

import pytest

from foresight.training import checkpoint
from support.processes import run_group
from support.tiny import sentences, tiny, tiny_tokenizer

pytestmark = pytest.mark.multi_process


def train(folder, base, stage):
    """A short run in which rank 1 is the slower one. Without DeepSpeed for stage 0."""
    from transformers import AutoModelForCausalLM

    from foresight.training import limits
    from foresight.training.config import ForesightConfig
    from foresight.training.trainer import ForesightTrainer

    world, rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
    timed, settings = limits._timed, {}
    if stage:
        auto = ("train_micro_batch_size_per_gpu", "gradient_accumulation_steps", "gradient_clipping")
        zero = {"stage": stage, "stage3_param_persistence_threshold": 0}
        settings["deepspeed"] = f"{folder}-zero-{rank}.json"
        with open(settings["deepspeed"], "w") as file:
            json.dump(dict.fromkeys(auto, "auto") | {"zero_optimization": zero, "bf16": {"enabled": "auto"}}, file)
    slowest = 4.0 if rank == world - 1 else 0.1

    def slow(*known):
        assert min(timed(*known)) > 0  # what it does is done
        return 1.0, slowest

    limits._timed = slow
    args = ForesightConfig(
        output_dir=str(folder), use_cpu=True, bf16=False, activation_checkpointing=False, report_to="none",
        disable_tqdm=True, max_steps=6, per_device_train_batch_size=4 // world, learning_rate=1e-2, adam_epsilon=1e-3,
        save_strategy="steps", save_steps=5, seed=3, budget=0.2, remask_every=2, policy="random",
        policy_params={"redraw": True}, limits={"seconds": 4.0, "gib": 1.0}, **settings,
    )  # fmt: skip
    model = AutoModelForCausalLM.from_pretrained(base)
    ForesightTrainer(model, args, sentences(96), processing_class=tiny_tokenizer()).train()


def schedule(folder):
    return json.loads((folder / "schedule.json").read_text())["entries"]


def test_the_slowest_rank_counts(tmp_path):
    tiny(num_hidden_layers=6).save_pretrained(tmp_path / "base")
    assert run_group(train, 1, tmp_path / "one", tmp_path / "base", 0) == [0]
    named = [name for entry in schedule(tmp_path / "one") for name in entry["components"]]
    assert not any(name.startswith("L0.") for name in named)
    for stage in (2, 3):
        folder = tmp_path / f"zero{stage}"
        assert run_group(train, 2, folder, tmp_path / "base", stage) == [0, 0]
        assert schedule(tmp_path / "one") == schedule(folder) and len(schedule(folder)) == 3
        _, state = checkpoint.read_state(folder / "checkpoint-5")
        assert state["remasking"]["pace"]["backward"] == 4.0
