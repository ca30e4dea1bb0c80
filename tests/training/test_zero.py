"""Two processes equal one under ZeRO 1, 2 and 3, in the cells of the table in recipes/deepspeed/README.md.

One forked group runs all cells in turn; real launchers run the whole trainer.
"""

import os
import subprocess
import sys
from datetime import timedelta
from itertools import product
from pathlib import Path
from typing import NamedTuple

import deepspeed
import numpy as np
import pytest
import torch

import support.zero_run as zero_run
from foresight.bank import Bank
from foresight.bank.optimizer import BankAdamW
from foresight.bank.zero import BankCPUAdam, ZeroPlacement
from foresight.common.errors import ConfigError
from foresight.masks.budget import budget_vectors
from foresight.masks.selection import select
from foresight.model.components import component_table
from support.processes import free_port, join_group, run_group
from support.same_run import same_run
from support.tiny import tiny, tokens

pytestmark = pytest.mark.multi_process

STEPS, CLIP, ROWS = 5, 1.0, 8
# A large epsilon: with the usual one, Adam turns the last bit of a vanishing gradient into a whole step.
SETTINGS = dict(lr=1e-2, eps=1e-3, weight_decay=0.01)
CONFIGS = sorted((Path(__file__).parents[2] / "recipes" / "deepspeed").glob("*.json"))
SCRIPT = Path(zero_run.__file__)
OFFLOADS = {1: ("none", "torch", "cpu_adam"), 2: ("none", "torch", "cpu_adam"), 3: ("none", "torch", "cpu_adam", "all")}
"""To the CPU: nothing; the optimizer, as torch's AdamW or DeepSpeedCPUAdam; and the weights as well."""


class Cell(NamedTuple):
    stage: int
    dtype: str
    offload: str
    accumulate: int
    checkpointing: bool

    @property
    def kernel(self):
        return self.offload in ("cpu_adam", "all")


def _cells():
    """All 80; those that the default run leaves out are marked slow.

    It has two cells of every (stage, offload), which differ in dtype, accumulation and checkpointing: so each value of
    these is seen with each stage and each offload, and with each value of the other two.
    """
    ways = [(stage, offload) for stage, offloads in OFFLOADS.items() for offload in offloads]
    for i, (stage, offload) in enumerate(ways):
        for settings in product(("float32", "bfloat16"), (1, 2), (False, True)):
            dtype, accumulate, checkpointing = settings
            bits = (dtype == "bfloat16", accumulate == 2, checkpointing)
            chosen = [(i >> 1 & 1, i & 1, 0), (1 - (i >> 1 & 1), 1 - (i & 1), 1)]
            marks = () if bits in chosen else pytest.mark.slow
            cell = Cell(stage, dtype, offload, accumulate, checkpointing)
            yield pytest.param(cell, marks=marks, id=str(cell))


CELLS = list(_cells())


def masked_bank(cell):
    model = tiny(dtype=getattr(torch, cell.dtype)).train()
    if cell.checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    table = component_table(model)
    bank = Bank(model, table, budget_vectors(table, 0.3))
    return model, bank, (BankCPUAdam if cell.kernel else BankAdamW)(bank.vectors, **SETTINGS)


def mask_at(bank, step):
    return select(np.random.default_rng(step).random(len(bank.table)), bank.table, bank.n_vectors)


def outcome(bank, optimizer):
    return {**bank.tensors(optimizer), "values": bank.changed()[1]}


def one_process(dtype, accumulate, kernel):
    """The same gradients in the same parts, summed in one process."""
    model, bank, optimizer = masked_bank(Cell(0, dtype, "cpu_adam" if kernel else "none", accumulate, False))
    for step in range(STEPS):
        if step != 1:  # vectors of several ages
            bank.remask(mask_at(bank, step), optimizer)
        for rows in tokens(ROWS, 12, step).chunk(2 * accumulate):
            (model(input_ids=rows, labels=rows).loss / (2 * accumulate)).backward()
        torch.nn.utils.clip_grad_norm_([bank.vectors], CLIP)
        optimizer.step()
        optimizer.zero_grad()
    return outcome(bank, optimizer)


def config_of(cell):
    # A small bank is kept whole on every rank (it persists) unless the threshold forbids it: half of the cells each.
    zero = {"stage": cell.stage, "stage3_param_persistence_threshold": 0 if cell.accumulate == 2 else 100_000}
    if cell.offload != "none":
        zero["offload_optimizer"] = {"device": "cpu"}
    if cell.offload == "all":
        zero["offload_param"] = {"device": "cpu"}
    return {
        "train_micro_batch_size_per_gpu": ROWS // 2 // cell.accumulate, "gradient_clipping": CLIP,
        "gradient_accumulation_steps": cell.accumulate, "zero_optimization": zero, "steps_per_print": 10**9,
        "zero_allow_untested_optimizer": True, "zero_force_ds_cpu_optimizer": False,
        "bf16": {"enabled": cell.dtype == "bfloat16"},
    }  # fmt: skip


def two_processes(rank, port, cells, results):
    join_group(rank, 2, port)
    deepspeed.init_distributed("gloo", timeout=timedelta(seconds=300))
    for cell in cells:
        model, bank, optimizer = masked_bank(cell)
        engine, *_ = deepspeed.initialize(
            model=model, model_parameters=[bank.vectors], optimizer=optimizer, config=config_of(cell)
        )
        bank.place(ZeroPlacement(model, engine))
        optimizer.rank = rank
        for step in range(STEPS):
            if step != 1:  # vectors of several ages
                bank.remask(mask_at(bank, step), optimizer)
            rows = tokens(ROWS, 12, step).chunk(2 * cell.accumulate)
            for i in range(cell.accumulate):
                mine = rows[2 * i + rank]
                engine.backward(engine(input_ids=mine, labels=mine).loss)
                engine.step()
        bank.base.verify()
        found = outcome(bank, optimizer)
        with bank.placement.whole(bank.vectors) as held:  # what the model computes with
            found["held"] = held.detach().float().clone()
        pieces = [v for state in optimizer.state.values() for v in state.values()]
        found["moments per rank"] = torch.tensor(sum(p.numel() for p in pieces))
        if rank == 0:
            results.put((cell, {k: v.numpy() for k, v in found.items()}))
        engine.destroy()
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


@pytest.fixture(scope="module")
def forked(request, reference):  # whose computation has loaded the kernel, before the fork
    """What two processes found in the cells that are to be tested."""
    chosen = [item for item in request.session.items if getattr(item, "function", None) is test_two_processes_equal_one]
    cells = [item.callspec.params["cell"] for item in chosen]
    context = torch.multiprocessing.get_context("fork")
    results = context.Queue()
    arguments = (free_port(), cells, results)
    group = torch.multiprocessing.start_processes(two_processes, arguments, nprocs=2, join=False, start_method="fork")
    found = {}
    while len(found) < len(cells):
        if not results.empty():
            cell, tensors = results.get()
            found[cell] = {k: torch.from_numpy(np.asarray(v)) for k, v in tensors.items()}
        elif group.join(timeout=1):  # raises if a process failed
            break
    while not group.join(timeout=30):
        pass
    return found


@pytest.fixture(scope="module")
def reference():
    kinds = [(dtype, n, kernel) for dtype in ("float32", "bfloat16") for n in (1, 2) for kernel in (False, True)]
    return {kind: one_process(*kind) for kind in kinds}


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.timeout(900)
def test_two_processes_equal_one(forked, reference, cell):
    found, expected = forked[cell], reference[cell.dtype, cell.accumulate, cell.kernel]
    # bf16: gradients are summed in another order at 8 bits of precision; the bound is a few steps of learning rate.
    tolerance = {"float32": 1e-5 if cell.stage == 3 else 1e-6, "bfloat16": 0.03}[cell.dtype]
    assert torch.equal(found["bank.ids"], expected["bank.ids"])
    assert torch.equal(found["ledger.ids"], expected["ledger.ids"])
    assert torch.equal(found["optimizer.ages"], expected["optimizer.ages"])
    for key in ("bank.vectors", "ledger.values", "optimizer.exp_avg", "optimizer.exp_avg_sq", "values"):
        assert (found[key] - expected[key]).abs().max() < tolerance, key
    # What the model computes with is the rounded master, exactly.
    assert torch.equal(found["held"], found["bank.vectors"].to(getattr(torch, cell.dtype)).float())
    vectors = found["bank.vectors"].numel()
    assert vectors <= int(found["moments per rank"]) <= vectors + 64  # two moments, half of each


# -- the whole trainer under real launchers -------------------------------------------------------------------------


def launch(command, tmp_path, *arguments):
    environment = dict(os.environ, DS_ACCELERATOR="cpu", OMP_NUM_THREADS="1", PYTHONPATH=os.pathsep.join(sys.path))
    words = [sys.executable, "-m", *command, str(SCRIPT), *map(str, arguments)]
    done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=280)
    return done


def torchrun(processes=2):
    return ["torch.distributed.run", "--nproc_per_node", str(processes), "--master_port", str(free_port())]


def finish(done):
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The base model and a run of one process to compare with."""
    folder = tmp_path_factory.mktemp("alone")
    tiny().save_pretrained(folder / "base")
    assert run_group(zero_run.main, 1, str(folder / "run"), str(folder / "base"), "0") == [0]
    return folder


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_the_configs_of_the_recipes_equal_one_process(tmp_path, alone, config):
    assert run_group(zero_run.main, 2, str(tmp_path / "run"), str(alone / "base"), str(config)) == [0, 0]
    same_run(alone / "run", tmp_path / "run", 1e-5)


@pytest.mark.parametrize("stage", [pytest.param(2, marks=pytest.mark.slow), 3])
def test_torchrun_equals_one_process(tmp_path, alone, stage):
    finish(launch(torchrun(), tmp_path, tmp_path / "run", alone / "base", stage))
    same_run(alone / "run", tmp_path / "run", 1e-5 if stage == 3 else 1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["deepspeed", "accelerate"])
def test_other_launchers_equal_one_process(tmp_path, alone, launcher):
    port = str(free_port())
    commands = {
        "deepspeed": ["deepspeed.launcher.runner", "--num_gpus", "2", "--master_port", port],
        "accelerate": [
            "accelerate.commands.launch", "--use_deepspeed", "--zero_stage", "2", "--num_processes", "2",
            "--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", port,
        ],
    }  # fmt: skip
    finish(launch(commands[launcher], tmp_path, tmp_path / "run", alone / "base", 2))
    same_run(alone / "run", tmp_path / "run", 1e-6)


def refused(folder, base):
    with pytest.raises(ConfigError, match="2 processes without DeepSpeed"):
        zero_run.main(folder, base, "0")


def test_a_plain_distributed_launch_is_refused(tmp_path, alone):
    assert run_group(refused, 2, str(tmp_path / "run"), str(alone / "base")) == [0, 0]
    assert not (tmp_path / "run" / "trajectory").exists()
