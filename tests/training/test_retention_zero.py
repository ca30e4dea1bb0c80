"""Two processes under ZeRO measure damage, replay and restart as one process does."""

import json
import os

import pytest
import torch
from safetensors.torch import load_file

from foresight.training import checkpoint
from support.processes import run_group
from support.tiny import sentences, tiny, tiny_tokenizer

pytestmark = pytest.mark.multi_process


def train(folder, base, stage, settings):
    """A short run by target `damage` on this process's share of the data; effective batches of 8 rows."""
    from transformers import AutoModelForCausalLM

    from foresight.training.config import ForesightConfig
    from foresight.training.trainer import ForesightTrainer

    world, rank = int(os.environ.get("WORLD_SIZE", "1")), os.environ.get("RANK", "0")
    if stage:
        auto = ("train_micro_batch_size_per_gpu", "gradient_accumulation_steps", "gradient_clipping")
        zero = {"stage": stage, "stage3_param_persistence_threshold": 0}
        path = f"{folder}-zero-{rank}.json"
        with open(path, "w") as file:
            json.dump(dict.fromkeys(auto, "auto") | {"zero_optimization": zero, "bf16": {"enabled": "auto"}}, file)
        settings = {**settings, "deepspeed": path}
    args = ForesightConfig(
        output_dir=str(folder), use_cpu=True, bf16=False, activation_checkpointing=False, report_to="none",
        disable_tqdm=True, max_steps=6, per_device_train_batch_size=4 // world, gradient_accumulation_steps=2,
        learning_rate=1e-2, adam_epsilon=1e-3, save_strategy="steps", save_steps=5, seed=3, budget=0.2, mlp_block=4,
        remask_every=2, probe_examples=6, probe_batch_size=2, policy="reactive", target="damage",
        target_params={"damage_weight": 100.0}, replay_share=0.25, restart_every=3, **settings,
    )  # fmt: skip
    model = AutoModelForCausalLM.from_pretrained(base)
    data = dict(train_dataset=sentences(96), retained_dataset=sentences(11, seed=7))
    ForesightTrainer(model, args, processing_class=tiny_tokenizer(), **data).train()


def same_run(one, two):
    a, b = (json.loads((folder / "schedule.json").read_text()) for folder in (one, two))
    assert a == b and len(a["entries"]) > 1
    (a, state), (b, _) = (checkpoint.read_state(folder / "checkpoint-5") for folder in (one, two))
    assert a.keys() == b.keys() and state["damage_seconds"] > 0
    for name, tensor in a.items():
        torch.testing.assert_close(b[name], tensor, rtol=1e-3, atol=1e-4, msg=lambda text, name=name: f"{name}: {text}")
    a, b = (load_file(folder / "delta" / "delta.safetensors") for folder in (one, two))
    assert a.keys() == b.keys() and all(torch.allclose(a[k].float(), b[k].float(), atol=1e-4) for k in a)


@pytest.mark.parametrize(("stage", "source"), [(2, "base"), (3, "data")])
def test_two_processes_do_what_one_does(tmp_path, stage, source):
    tiny().save_pretrained(tmp_path / "base")
    settings = dict(retained_source={"examples": 9, "tokens": 5} if source == "base" else source)
    train(tmp_path / "one", tmp_path / "base", 0, settings)
    assert run_group(train, 2, tmp_path / "two", tmp_path / "base", stage, settings) == [0, 0]
    same_run(tmp_path / "one", tmp_path / "two")
    assert len(list((tmp_path / "two").glob("retained-*.jsonl"))) == (source == "base")
