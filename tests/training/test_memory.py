"""What memory is predicted: by hand for a large model, against real optimizers, and against two real processes."""

import json
from collections import Counter

import pytest
import torch
from torch.profiler import ProfilerActivity, profile
from transformers import AutoModelForCausalLM, LlamaConfig

from eval import memory as measure
from foresight.bank import Bank
from foresight.bank.optimizer import BankAdamW
from foresight.common.errors import ConfigError
from foresight.masks.budget import budget_vectors
from foresight.model.components import component_table
from foresight.training.config import ForesightConfig
from foresight.training.memory import FP32, STEP_SHARD, STEP_WHOLE, Sharding, Sizes, memory, remask_bytes, ways
from foresight.training.plan import Plan
from support.tiny import published, tiny

SIZES = Sizes(
    weights=1000 * 64, element=2, largest=100 * 64, targets=500 * 64, rows=40, d_model=64, activations=10**6,
    ledger=12345, accumulates=True,
)  # fmt: skip
BANK = 40 * 64
SMALL = dict(bucket=3000, live=2000)


def _states(way, sizes=SIZES):
    predicted = memory(sizes, way)
    return Counter(predicted.device.states), Counter(predicted.host.states)


@pytest.mark.parametrize("bf16", [False, True])
def test_a_peak_is_the_states_and_the_largest_phase(bf16):
    for way in ways(4, bf16).values():
        for parts in (memory(SIZES, way).device, memory(SIZES, way).host):
            phases = [sum(phase.values()) for phase in parts.phases.values()]
            assert parts.peak == sum(parts.states.values()) + max(phases, default=0)
            assert all(size >= 0 for size in parts.states.values())


def test_stages_shard_one_thing_after_the_other():
    one, two, three = (_states(Sharding(stage, 4, True, **SMALL))[0] for stage in (1, 2, 3))
    assert one == two  # the bank is one parameter: its gradient is whole on every process that updates a part of it
    for states in (one, three):
        assert states["master"] == FP32 * BANK // 4 and states["moments"] == 2 * FP32 * BANK // 4
        assert states["ages"] == FP32 * 40
    assert one["frozen weights"] == 2 * SIZES.weights == 4 * three["frozen weights"]
    assert one["bank"] == 2 * BANK == 4 * three["bank"] == three["fetched bank"]


@pytest.mark.parametrize("bf16", [False, True])
def test_offload_moves_states_from_the_device_to_the_host(bf16):
    device, host = _states(Sharding(3, 4, bf16, **SMALL))
    assert host == Counter(ledger=SIZES.ledger)
    for offload_param in (False, True):
        less, more = _states(Sharding(3, 4, bf16, True, offload_param, **SMALL))
        moved = {"master", "moments", "gradient"} | ({"frozen weights", "bank"} if offload_param else set())
        assert set(host) | moved == set(more) and not moved & set(less)
        for name in moved - {"gradient"}:
            assert more[name] == device[name]
        assert more["gradient"] == device["gradient"] + FP32 * BANK // 4  # DeepSpeed keeps an fp32 shard as well
        assert all(less[name] == device[name] for name in less)


def test_without_deepspeed_the_bank_is_fp32_and_copied_into_the_weights_dtype():
    states, host = _states(Sharding())
    assert states["bank"] == FP32 * BANK and states["fetched bank"] == 2 * BANK
    assert states["moments"] == 2 * FP32 * BANK and host == Counter(ledger=SIZES.ledger)


def test_more_processes_need_less_each():
    peaks = [[memory(SIZES, Sharding(s, n, True, **SMALL)).device.peak for n in (1, 2, 4, 8)] for s in (1, 2, 3)]
    assert all(found == sorted(found, reverse=True) for found in peaks)


@pytest.mark.parametrize(
    "wrong",
    [
        dict(stage=4),
        dict(processes=0, stage=1),
        dict(processes=2),
        dict(offload_optimizer=True),
        dict(stage=2, offload_param=True),
    ],
    ids=str,
)
def test_ways_that_do_not_exist_are_refused(wrong):
    with pytest.raises(ConfigError, match="expected stage|need DeepSpeed"):
        Sharding(**wrong)


def test_what_a_remask_communicates():
    zero3 = Sharding(3, 4, True)
    assert remask_bytes(SIZES, zero3) == (3 * FP32 * BANK, 2 * SIZES.targets)
    assert remask_bytes(SIZES, Sharding(2, 4, True)) == (3 * FP32 * BANK, 0)
    assert remask_bytes(SIZES, Sharding(3, 1, True)) == remask_bytes(SIZES, Sharding()) == (0, 0)
    phase = memory(SIZES, zero3).device.phases["re-mask"]
    assert phase == {"gathered bank": FP32 * BANK, "gathered weights": 2 * SIZES.largest}


def test_eight_billion_parameters_by_hand(tmp_path):
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(published("meta-llama/Llama-3.1-8B"))
    args = ForesightConfig(str(tmp_path), budget=0.05, bf16=True, use_cpu=True, gradient_accumulation_steps=1)
    sizes = Plan(model, args, None).sizes
    bank = 98_025 * 4096  # floor(.05 x 8,030,261,248 / 4096) rows
    states = memory(sizes, Sharding(3, 8, True)).device.states
    assert states == {
        "frozen weights": 2 * 1_003_782_656,
        "bank": 2 * bank // 8,
        "fetched bank": 2 * bank,
        "master": 4 * bank // 8,
        "moments": 8 * bank // 8,
        "gradient": 2 * bank // 8,
        "ages": 4 * 98_025,
        "buckets": 2 * 4096**2,
    }
    alone = memory(sizes, Sharding()).device
    assert alone.states["frozen weights"] == 16_060_522_496
    assert alone.phases["step"] == {"gradient": 4 * bank, "temporaries": 8 * bank}


@pytest.mark.parametrize("sharded", [False, True])
def test_state_and_temporaries_are_the_optimizers(tmp_path, sharded):
    """Without DeepSpeed the parameter is the bank [n, d]; under it, a flat fp32 shard of it, here the only one."""
    sizes_of_bank = {"hidden_size": 256, "intermediate_size": 512}
    model = tiny("qwen3", **sizes_of_bank)
    table = component_table(model)
    bank = Bank(model, table, budget_vectors(table, 0.2))
    optimizer = BankAdamW(bank.vectors, lr=0.1)
    parameter = bank.vectors
    if sharded:
        parameter = torch.nn.Parameter(bank.vectors.detach().flatten())
        optimizer.param_groups[0]["params"] = [parameter]
    parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as prof:
        optimizer.step()
    prof.export_chrome_trace(str(tmp_path / "trace.json"))
    events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    allocated = [e["args"] for e in sorted((e for e in events if e["name"] == "[memory]"), key=lambda e: e["ts"])]
    used = max(a["Total Allocated"] for a in allocated) - allocated[0]["Total Allocated"] + allocated[0]["Bytes"]
    args = ForesightConfig(str(tmp_path), budget=0.2, policy="static", use_cpu=True, bf16=False)
    predicted = memory(Plan(tiny("qwen3", **sizes_of_bank), args, None).sizes, Sharding(1) if sharded else Sharding())
    assert sum(t.nbytes for t in optimizer.state[parameter].values()) == predicted.device.states["moments"]
    assert optimizer.ages.nbytes == predicted.device.states["ages"]
    temporaries = (STEP_SHARD if sharded else STEP_WHOLE) * parameter.numel()
    assert predicted.device.phases["step"]["temporaries"] == temporaries
    assert used == pytest.approx(temporaries, rel=0.05)


# -- two processes ----------------------------------------------------------------------------------------------------

MODEL = dict(
    hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
    vocab_size=128, max_position_embeddings=64,
)  # fmt: skip
CASES = [(stage, dtype, False) for dtype in ("float32", "bfloat16") for stage in (1, 2, 3)] + [(3, "bfloat16", True)]


def _way(stage, dtype, offload):
    bf16 = dtype == "bfloat16"
    return Sharding(stage, 2, bf16, offload_optimizer=offload, **SMALL)


def _two_processes(rank, port, folder):
    measure.join(rank, port)
    found = []
    for case in CASES:
        for step in measure.train(_way(*case), case[1], rank, MODEL, 0.3, 1):
            states = measure.held(*step)
        found.append(states)
    (folder / f"{rank}.json").write_text(json.dumps(found))
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


@pytest.mark.multi_process
@pytest.mark.timeout(600)
def test_each_process_holds_what_is_predicted(tmp_path):
    pytest.importorskip("deepspeed")
    torch.multiprocessing.start_processes(
        _two_processes, (measure.free_port(), tmp_path), nprocs=2, start_method="fork"
    )
    ranks = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2)]
    model = AutoModelForCausalLM.from_config(LlamaConfig(**MODEL))
    for case, *found in zip(CASES, *ranks, strict=True):
        predicted = measure.predicted(model, _way(*case), 0.3, str(tmp_path))
        expected = Counter(predicted.device.states) + Counter(predicted.host.states)
        for states in found:
            for name, size in states.items():
                assert size == pytest.approx(expected[name], rel=0.03, abs=256), (case, name)
