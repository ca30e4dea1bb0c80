"""Groups of processes on this machine, as a launcher would start them but without a launcher's seconds of imports."""

import functools
import gc
import multiprocessing
import os
import socket
import time

import cpuinfo
import deepspeed
import torch
from deepspeed.ops.op_builder import CPUAdamBuilder

# DeepSpeedCPUAdam asks at every construction, which takes more than a second.
cpuinfo.get_cpu_info = functools.cache(cpuinfo.get_cpu_info)
# Its kernel is compiled in every fresh environment: without debug information and for little speed, in half the time.
_flags = CPUAdamBuilder.cxx_args
CPUAdamBuilder.cxx_args = lambda self: [*_flags(self), "-g0", "-O1"]
# Collectives that only inference uses: DeepSpeed would compile them for a minute.
deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False

_PRELOAD = [
    "deepspeed", "deepspeed.runtime.zero.stage3", "deepspeed.runtime.zero.stage_1_and_2", "torch._inductor.compile_fx",
    "deepspeed.module_inject", "sklearn.metrics", "foresight.training.trainer", "foresight.bank.zero",
    "transformers.models.llama.modeling_llama",
]  # fmt: skip
"""What takes seconds to import, some of it at first use only. The server does not know the path of tests/."""


def forkserver():
    """Where processes start with everything imported: one server for all tests of this process."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOAD)
    return context


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def join_group(rank, world, port):
    """Make this process one of a group, by the variables that launchers set."""
    os.environ.update(
        RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(world), LOCAL_WORLD_SIZE=str(world),
        MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), DS_ACCELERATOR="cpu",
    )  # fmt: skip
    torch.set_num_threads(1)
    gc.freeze()  # DeepSpeed often collects garbage, and would go through everything that was imported


def _member(rank, world, port, target, args):
    join_group(rank, world, port)
    target(*args)


def run_group(target, world, *args, timeout=240):
    """Run `target(*args)` in `world` processes that know each other; returns their exit codes, by rank.

    When one of them fails or is killed, the others are ended like a launcher does.
    """
    context = forkserver()
    port, start = free_port(), time.monotonic()
    members = [context.Process(target=_member, args=(rank, world, port, target, args)) for rank in range(world)]
    for member in members:
        member.start()
    while any(member.is_alive() for member in members):
        time.sleep(0.05)
        broken = any(member.exitcode not in (None, 0) for member in members)
        if broken or time.monotonic() - start > timeout:
            deadline = time.monotonic() + (5 if broken else 0)
            for member in members:
                member.join(max(0, deadline - time.monotonic()))
                member.kill()
    for member in members:
        member.join()
    return [member.exitcode for member in members]
