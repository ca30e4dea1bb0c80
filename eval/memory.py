"""Measure the memory of two-process runs on the CPU and compare it with what `foresight plan` predicts.

    python -m eval.memory --out eval/results/memory/results.json

For every way of sharding a group of two forked processes trains a random Llama for a few steps. Measured are
(a) the states: bytes of the distinct storages behind the weights, the bank, and what optimizer and engine hold after a
step, by the part's name in `foresight.training.memory`; device and host are both the CPU here, so offloaded parts are
counted where they are named, not where they lie;
(b) the peak: the states and the most that torch's CPU allocator gave out on top of them during one more step, from the
profiler's memory events. What other libraries allocate themselves is left out.
"""

from __future__ import annotations

import argparse
import gc
import json
import logging
import os
import platform
import socket
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterable
from datetime import timedelta
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import deepspeed
import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, LlamaConfig

from foresight.bank import Bank
from foresight.bank.optimizer import BankAdamW
from foresight.common.files import write_json
from foresight.masks.budget import budget_vectors
from foresight.masks.selection import select
from foresight.model.components import component_table
from foresight.training.config import ForesightConfig
from foresight.training.memory import Memory, Sharding, memory
from foresight.training.plan import Plan

from .speed.peaks import allocated_by

PROCESSES, BATCH, LENGTH, ACCUMULATE, STEPS = 2, 2, 64, 2, 2
MODEL = dict(
    hidden_size=512, intermediate_size=1408, num_hidden_layers=8, num_attention_heads=8, num_key_value_heads=8,
    vocab_size=8192, max_position_embeddings=LENGTH,
)  # fmt: skip
BUDGETS = (0.1, 0.4)
"""With the small one a step's peak is in the forward pass, with the large one in the gradient or the optimizer."""
SCORING = ("scoring", "calibration")
"""Phases between steps, which `eval.scoring.memory` measures."""
SMALL = dict(bucket=4_000_000, live=4_000_000)
"""DeepSpeed's settings in proportion to the model: its defaults are made for a hundred times as many weights."""


def cases() -> dict[str, tuple[Sharding, str, float]]:
    """Name -> (way of sharding, dtype, budget)."""
    found = {}
    small, large = BUDGETS
    for dtype in ("float32", "bfloat16"):
        shared: dict[str, Any] = dict(processes=PROCESSES, bf16=dtype == "bfloat16", **SMALL)
        ways = {"no DeepSpeed": Sharding(), **{f"ZeRO {s}": Sharding(s, **shared) for s in (1, 2, 3)}}
        ways["ZeRO 3, optimizer offloaded"] = Sharding(3, offload_optimizer=True, **shared)
        found |= {f"{name}, {dtype}": (way, dtype, small) for name, way in ways.items()}
    for name in ("no DeepSpeed", "ZeRO 2", "ZeRO 3"):
        found[f"{name}, bfloat16, large bank"] = (found[f"{name}, bfloat16"][0], "bfloat16", large)
    return found


def deepspeed_config(way: Sharding, accumulate: int = ACCUMULATE) -> dict[str, Any]:
    """What the engine is told of a way of sharding; its bucket must be a number."""
    zero = {
        "stage": way.stage,
        "reduce_bucket_size": way.bucket,
        "stage3_max_live_parameters": way.live,
        "stage3_max_reuse_distance": way.live,
        "stage3_prefetch_bucket_size": way.live // 16,
        "stage3_param_persistence_threshold": 0,
    }
    if way.offload_optimizer:
        zero["offload_optimizer"] = {"device": "cpu"}
    if way.offload_param:
        zero["offload_param"] = {"device": "cpu"}
    return {
        "train_micro_batch_size_per_gpu": BATCH,
        "gradient_accumulation_steps": accumulate,
        "gradient_clipping": 1.0,
        "zero_optimization": zero,
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "bf16": {"enabled": way.bf16},
        "steps_per_print": 10**9,
    }


def held(model: nn.Module, bank: Bank, optimizer: BankAdamW, engine: Any = None) -> dict[str, int]:
    """Bytes that this process holds between steps, by the part's name; a storage counts for the first that has it."""
    zero = getattr(engine, "optimizer", None)
    masters = [p for group in optimizer.param_groups for p in group["params"]] if zero is not None else []
    masters += getattr(zero, "fp32_partitioned_groups_flat", [])
    frozen = [p for p in model.parameters() if p is not bank.vectors]
    buckets = [bucket.buffer for bucket in getattr(zero, "ipg_buckets", {}).values()]
    flat = [getattr(zero, "grad_partitions_flat_buffer", None), *(p.grad for p in masters), bank.vectors.grad]
    parts = {
        "frozen weights": [t for p in frozen for t in (getattr(p, "ds_tensor", p), p.data)],
        "bank": [getattr(bank.vectors, "ds_tensor", bank.vectors)],
        "fetched bank": [bank.vectors.data, *bank._pieces.values()],
        "master": masters,
        "moments": [t for state in optimizer.state.values() for t in state.values()],
        "ages": [optimizer.ages],
        "gradient": flat,
        "buckets": [b for b in buckets if isinstance(b, Tensor)],
    }
    seen: dict[int, int] = {}
    return {name: _new_bytes(tensors, seen) for name, tensors in parts.items()}


def _new_bytes(tensors: Iterable[Tensor | None], seen: dict[int, int]) -> int:
    before = sum(seen.values())
    for tensor in tensors:
        if tensor is not None and tensor.untyped_storage().nbytes():
            storage = tensor.untyped_storage()
            seen.setdefault(storage.data_ptr(), storage.nbytes())
    return sum(seen.values()) - before


def predicted(model: nn.Module, way: Sharding, budget: float, folder: str) -> Memory:
    """What `foresight plan` says of the run that `train` does."""
    args = ForesightConfig(
        output_dir=folder, budget=budget, policy="static", max_length=LENGTH, per_device_train_batch_size=BATCH,
        probe_batch_size=1, gradient_accumulation_steps=ACCUMULATE, gradient_checkpointing=False, bf16=way.bf16,
        use_cpu=True, report_to="none",
    )  # fmt: skip
    return memory(Plan(model, args, None).sizes, way)


def train(way: Sharding, dtype: str, rank: int, model_sizes: dict[str, int], budget: float, steps: int):
    """Yield (model, bank, optimizer, engine) before the first and after every step."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(LlamaConfig(**model_sizes)).to(getattr(torch, dtype)).train()
    table = component_table(model)
    bank = Bank(model, table, budget_vectors(table, budget))
    optimizer = BankAdamW(bank.vectors, lr=1e-3)
    bank.remask(select(np.random.default_rng(0).random(len(table)), table, bank.n_vectors), optimizer)
    engine = None
    if way.stage:
        from foresight.bank.zero import ZeroPlacement

        engine, *_ = deepspeed.initialize(
            model=model, model_parameters=[bank.vectors], optimizer=optimizer, config=deepspeed_config(way)
        )
        bank.place(ZeroPlacement(model, engine))
        optimizer.rank = rank
    rows = torch.randint(0, model_sizes["vocab_size"], (BATCH, LENGTH))
    yield model, bank, optimizer, engine
    for _ in range(steps):
        for _ in range(ACCUMULATE):
            # One position of logits: the trainer's fused loss does not hold them all either.
            loss = (engine or model)(input_ids=rows, logits_to_keep=1).logits.float().logsumexp(-1).mean()
            if engine is None:
                (loss / ACCUMULATE).backward()
            else:
                engine.backward(loss)
                engine.step()
            del loss
        if engine is None:
            nn.utils.clip_grad_norm_([bank.vectors], 1.0)
            optimizer.step()
            optimizer.zero_grad()
        yield model, bank, optimizer, engine
    if engine is not None:
        engine.destroy()


def join(rank: int, port: int, world: int = PROCESSES) -> None:
    """Make this process a member of a group on the CPU."""
    os.environ.update(
        RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(world), LOCAL_WORLD_SIZE=str(world),
        MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), DS_ACCELERATOR="cpu",
    )  # fmt: skip
    torch.set_num_threads(1)
    # What only inference uses, and what takes a minute to compile.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    deepspeed.init_distributed("gloo", timeout=timedelta(seconds=120))


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def _measure(rank: int, port: int, folder: str) -> None:
    """One process of the group: all cases in turn; writes `folder/RANK.json`."""
    join(rank, port)
    found = {}
    for name, (way, dtype, budget) in cases().items():
        run = train(way, dtype, rank, MODEL, budget, STEPS)
        for _ in range(STEPS):
            parts = next(run)
        states = held(*parts)
        # The profiler does not see the end of what was there before it: what the last forward has kept goes first.
        parts[1]._pieces = {}
        kept = sum(states.values()) - states["fetched bank"]
        found[name] = {"states": states, "peak": kept + allocated_by(partial(next, run))}
        del parts
        next(run, None)  # lets it clean up
        gc.collect()
    (Path(folder) / f"{rank}.json").write_text(json.dumps(found))
    torch.distributed.destroy_process_group()


def compare(measured: dict[str, Any], expected: Memory) -> dict[str, Any]:
    """Measured next to predicted bytes, device and host together, of states by name and of the peak."""
    states = Counter(expected.device.states) + Counter(expected.host.states)
    phases = {
        name: sum(expected.device.phases.get(name, {}).values()) + sum(expected.host.phases.get(name, {}).values())
        for name in (*expected.device.phases, *expected.host.phases)
        if name not in ("re-mask", *SCORING)  # the measured steps have none
    }
    total, peak = sum(states.values()), sum(states.values()) + max(phases.values())
    return {
        "states": {name: [measured["states"].get(name, 0), states.get(name, 0)] for name in measured["states"]},
        "total of states": [sum(measured["states"].values()), total],
        "peak": [measured["peak"], peak],
        "phase of the peak": max(phases, key=lambda name: phases[name]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="memory of small two-process runs against the prediction")
    parser.add_argument("--out", type=Path, required=True, help="JSON file for the results")
    out = parser.parse_args().out
    with tempfile.TemporaryDirectory() as folder:
        with torch.device("meta"):
            models = {
                dtype: AutoModelForCausalLM.from_config(LlamaConfig(**MODEL, dtype=dtype))
                for dtype in ("float32", "bfloat16")
            }
        expected = {
            name: predicted(models[dtype], way, budget, folder) for name, (way, dtype, budget) in cases().items()
        }
        torch.multiprocessing.start_processes(_measure, (free_port(), folder), nprocs=PROCESSES, start_method="fork")
        ranks = [json.loads((Path(folder) / f"{rank}.json").read_text()) for rank in range(PROCESSES)]
    # Padding can make one rank's shard larger: the larger process counts, as it does for what fits on a device.
    worst = {name: max((found[name] for found in ranks), key=lambda r: r["peak"]) for name in ranks[0]}
    results = {name: compare(worst[name], expected[name]) for name in worst}
    packages = ("torch", "deepspeed", "transformers")
    settings = {
        "python": platform.python_version(), **{name: version(name) for name in packages},
        "processes": PROCESSES, "batch": BATCH, "length": LENGTH, "accumulation": ACCUMULATE, "budgets": BUDGETS,
        "parameters": sum(p.numel() for p in models["float32"].parameters()), **SMALL,
    }  # fmt: skip
    out.parent.mkdir(parents=True, exist_ok=True)
    write_json(out, {"settings": settings, "bytes [measured, predicted]": results})
    Console(width=110).print(_table(results))


def _table(results: dict[str, Any]) -> Table:
    table = Table(title="MB per process: measured / predicted = ratio", title_justify="left")
    for column in ("run", "states", "peak", "largest phase"):
        table.add_column(column)
    for name, found in results.items():
        cells = []
        for key in ("total of states", "peak"):
            measured, predicted = found[key]
            cells.append(f"{measured / 1e6:.1f} / {predicted / 1e6:.1f} = {measured / predicted:.3f}")
        table.add_row(name, *cells, found["phase of the peak"])
    return table


if __name__ == "__main__":
    main()
