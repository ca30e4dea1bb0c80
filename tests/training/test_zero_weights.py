"""Single weights under ZeRO 1 and 2: two processes equal one, re-masks and checkpoint included; ZeRO 3 is refused."""

import json
import os
from datetime import timedelta
from pathlib import Path

import deepspeed
import numpy as np
import pytest
import torch
from accelerate.utils.deepspeed import HfDeepSpeedConfig
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from foresight.bank.optimizer import BankAdamW
from foresight.bank.weights import WeightBank
from foresight.bank.zero import ZeroPlacement
from foresight.common.errors import ConfigError
from foresight.masks.budget import budget_vectors
from foresight.masks.masks import WeightMask
from foresight.model.weight_table import weight_table
from foresight.training.config import ForesightConfig
from foresight.training.sharding import optimizer_class, refuse_world
from foresight.training.trainer import ForesightTrainer
from support.processes import run_group
from support.tiny import sentences, tiny, tiny_tokenizer, tokens

CELLS = [(stage, dtype) for stage in (1, 2) for dtype in ("float32", "bfloat16")]
# A large epsilon: with the usual one, Adam turns the last bit of a vanishing gradient into a whole step.
SETTINGS = dict(lr=1e-2, eps=1e-3, weight_decay=0.01)


def banked(dtype):
    model = tiny(dtype=getattr(torch, dtype)).train()
    table = weight_table(model)
    bank = WeightBank(model, table, budget_vectors(table, 0.1))
    return model, bank, BankAdamW(bank.vectors, **SETTINGS)


def mask_at(bank, step):
    """Half of the weights stay from step to step."""
    kept = bank.mask.components[::2]
    drawn = np.random.default_rng(step).choice(bank.table.n_vectors, bank.n_vectors, replace=False)
    rest = np.setdiff1d(drawn, kept)[: bank.n_vectors - len(kept)]
    return WeightMask(np.union1d(kept, rest))


def one_process(dtype):
    model, bank, optimizer = banked(dtype)
    for step in range(4):
        bank.remask(mask_at(bank, step), optimizer)
        for rows in tokens(8, 12, step).chunk(4):
            (model(input_ids=rows, labels=rows).loss / 4).backward()
        torch.nn.utils.clip_grad_norm_([bank.vectors], 1.0)
        optimizer.step()
        optimizer.zero_grad()
    return {**bank.tensors(optimizer), "values": bank.changed()[1]}


def two_processes(folder):
    deepspeed.init_distributed("gloo", timeout=timedelta(seconds=120))
    for stage, dtype in CELLS:
        model, bank, optimizer = banked(dtype)
        config = {
            "train_micro_batch_size_per_gpu": 2, "gradient_accumulation_steps": 2, "steps_per_print": 10**9,
            "gradient_clipping": 1.0,
            "zero_optimization": {"stage": stage}, "zero_allow_untested_optimizer": True,
            "bf16": {"enabled": dtype == "bfloat16"},
        }  # fmt: skip
        engine, *_ = deepspeed.initialize(
            model=model, model_parameters=[bank.vectors], optimizer=optimizer, config=config
        )
        bank.place(ZeroPlacement(model, engine))
        optimizer.rank = bank.placement.rank
        for step in range(4):
            bank.remask(mask_at(bank, step), optimizer)
            rows = tokens(8, 12, step).chunk(4)
            for i in range(2):
                mine = rows[2 * i + bank.placement.rank]
                engine.backward(engine(input_ids=mine, labels=mine).loss)
                engine.step()
        bank.base.verify()
        found = {**bank.tensors(optimizer), "values": bank.changed()[1]}
        found["moments"] = torch.tensor(sum(v.numel() for s in optimizer.state.values() for v in s.values()))
        if bank.placement.rank == 0:
            save_file({k: v.contiguous() for k, v in found.items()}, Path(folder, f"{stage}-{dtype}.safetensors"))
        engine.destroy()


@pytest.mark.multi_process
def test_two_processes_equal_one(tmp_path):
    assert run_group(two_processes, 2, str(tmp_path)) == [0, 0]
    for stage, dtype in CELLS:
        found, expected = load_file(tmp_path / f"{stage}-{dtype}.safetensors"), one_process(dtype)
        # bf16: gradients are summed in another order at 8 bits of precision; the bound is a few steps of learning rate.
        tolerance = {"float32": 1e-6, "bfloat16": 0.03}[dtype]
        for key in ("bank.ids", "ledger.ids", "optimizer.ages"):
            assert torch.equal(found[key], expected[key]), (stage, dtype, key)
        for key in ("bank.vectors", "ledger.values", "optimizer.exp_avg", "optimizer.exp_avg_sq", "values"):
            assert (found[key] - expected[key]).abs().max() < tolerance, (stage, dtype, key)
        n = len(expected["bank.vectors"])
        assert n <= int(found["moments"]) <= n + 64  # two moments, half of each


def a_run(folder, base, policy, resume):
    world, rank, settings = int(os.environ["WORLD_SIZE"]), os.environ["RANK"], {}
    if world > 1:
        auto = ("train_micro_batch_size_per_gpu", "gradient_accumulation_steps", "gradient_clipping")
        path = Path(f"{folder}-zero-{rank}.json")
        path.write_text(json.dumps(dict.fromkeys(auto, "auto") | {"zero_optimization": {"stage": 2}}))
        settings["deepspeed"] = str(path)
    args = ForesightConfig(
        output_dir=folder, use_cpu=True, bf16=False, activation_checkpointing=False, report_to="none",
        disable_tqdm=True, max_steps=6, per_device_train_batch_size=4 // world, learning_rate=1e-2, adam_epsilon=1e-3,
        save_strategy="steps", save_steps=4, seed=3, granularity="weights", policy=policy, budget=0.1, remask_every=3,
        **(dict(probe_examples=6, probe_batch_size=2) if policy == "reactive" else {}), **settings,
    )  # fmt: skip
    model = AutoModelForCausalLM.from_pretrained(base)
    trainer = ForesightTrainer(model, args, sentences(96), processing_class=tiny_tokenizer())
    trainer.train(resume_from_checkpoint=f"{folder}/checkpoint-4" if resume else None)


@pytest.mark.multi_process
@pytest.mark.parametrize("policy", ["reactive", "foresight"])
def test_a_sharded_run_and_its_resumption_equal_one_process(tmp_path, policy):
    """`reactive` scores: gradients are summed over both processes, each of which ranks its share of matrices.
    `foresight` reads the whole bank, and every process draws the same mask."""
    tiny().save_pretrained(tmp_path / "base")
    found = {}
    for name, world, resume in (("one", 1, False), ("two", 2, False), ("two", 2, True)):
        assert run_group(a_run, world, str(tmp_path / name), str(tmp_path / "base"), policy, resume) == [0] * world
        found[name, resume] = load_file(tmp_path / name / "delta" / "delta.safetensors")
    one = found["one", False]
    for other in (found["two", False], found["two", True]):
        assert one.keys() == other.keys()
        for key, value in one.items():
            assert value.shape == other[key].shape and (value.float() - other[key].float()).abs().max() < 1e-5, key


@pytest.mark.parametrize("stage", [2, 3])
def test_stage_3_is_refused_and_an_offloaded_optimizer_is_the_plain_one(tmp_path, stage):
    args = ForesightConfig(str(tmp_path), use_cpu=True, granularity="weights", policy="random")
    args.deepspeed = {"zero_optimization": {"stage": stage, "offload_optimizer": {"device": "cpu"}}}
    args.hf_deepspeed_config = HfDeepSpeedConfig(args.deepspeed)
    if stage == 3:
        with pytest.raises(ConfigError, match="granularity 'weights' under ZeRO stage 3.*use ZeRO 1 or 2"):
            refuse_world(args)
        return
    refuse_world(args)
    assert optimizer_class(args) is BankAdamW
    assert args.hf_deepspeed_config.get_value("zero_force_ds_cpu_optimizer") is False
