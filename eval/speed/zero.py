"""A re-mask next to a train step under ZeRO, in groups of processes on the CPU.

    python -m eval.speed.zero --processes 2 --stages 2 3 --rounds 5

prints JSON in its last line. Every process has a batch of its own, so that with more of them there is more work in all
and the same for each. CPU times are those of a process, its part of the communication included and its waiting for the
others not: they can be compared when there are more processes than cores, which wall times then cannot.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import asdict, replace
from itertools import count
from pathlib import Path
from typing import Any

import torch

from .arms import ARMS, Place, random_mask
from .clock import Times, alternate, ratios
from .shapes import Shape

STAGES = (2, 3)


def in_a_group(shape: Shape, processes: int, rounds: int, stages: Iterable[int] = STAGES) -> dict[str, Any]:
    """`ratios` of a re-mask of half the mask or more to a step at 5 %, under "step" those of a step to itself; by name
    of the stage, over the rounds of all processes. Started as a program of its own, as groups must be forked before
    torch computes.

    Raises:
        RuntimeError: the group has failed; with what it said last.
    """
    words = [sys.executable, "-m", "eval.speed.zero", "--processes", processes, "--rounds", rounds, "--shape",
             json.dumps(asdict(shape)), "--stages", *stages]  # fmt: skip
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"a group of {processes} processes has failed: {done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def works(shape: Shape, stage: int, rank: int) -> tuple[Any, dict[str, Callable[[], Any]]]:
    """The engine of a group's process, and its step and re-mask; the bank at 5 % as in one process."""
    import deepspeed

    from foresight.bank.zero import ZeroPlacement
    from foresight.training.memory import Sharding

    from ..memory import SMALL, deepspeed_config

    arm = ARMS["bank_5pct"](Place(shape))
    bank, rows, seeds = arm.bank, shape.batch(seed=rank), count(1)
    assert bank is not None
    config = {**deepspeed_config(Sharding(stage, **SMALL), 1), "train_micro_batch_size_per_gpu": shape.rows}
    engine, *_ = deepspeed.initialize(
        model=arm.model, model_parameters=[bank.vectors], optimizer=arm.optimizer, config=config
    )
    bank.place(ZeroPlacement(arm.model, engine))
    arm.optimizer.rank = rank

    def step() -> None:
        engine.backward(engine(input_ids=rows, labels=rows).loss)
        engine.step()

    return engine, {"step": step, "remask": lambda: bank.remask(random_mask(bank, next(seeds)), arm.optimizer)}


def _member(rank: int, port: int, options: argparse.Namespace, folder: str) -> None:
    """One process: all stages in turn; writes `folder/RANK.json`."""
    from ..memory import join

    join(rank, port, options.processes)
    found = {}
    for stage in options.stages:
        engine, turns = works(options.shape, stage, rank)
        times = alternate(turns, options.rounds)
        found[f"zero{stage}"] = {name: asdict(one) for name, one in times.items()}
        engine.destroy()
    (Path(folder) / f"{rank}.json").write_text(json.dumps(found))
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


def pooled(ranks: list[dict[str, dict[str, dict[str, list[float]]]]]) -> dict[str, Any]:
    """`in_a_group`'s result from what its processes have written."""

    def times(stage: str, work: str) -> Times:
        parts = [rank[stage][work] for rank in ranks]
        return Times(*([t for part in parts for t in part[clock]] for clock in ("cpu", "wall")))

    return {
        stage: {work: ratios(times(stage, work), times(stage, "step")) for work in ("step", "remask")}
        for stage in ranks[0]
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m eval.speed.zero", description=__doc__.split("\n")[0])
    parser.add_argument("--processes", type=int, default=2, help="of the group")
    parser.add_argument("--stages", type=int, nargs="+", default=list(STAGES), choices=(1, 2, 3), help="of ZeRO")
    parser.add_argument("--rounds", type=int, default=5, help="times everything is measured")
    parser.add_argument("--shape", type=json.loads, default={}, metavar="JSON", help="sizes other than usual")
    options = parser.parse_args()
    options.shape = replace(Shape(), **options.shape)
    from ..memory import free_port

    with tempfile.TemporaryDirectory() as folder:
        arguments = (free_port(), options, folder)
        torch.multiprocessing.start_processes(_member, arguments, nprocs=options.processes, start_method="fork")
        ranks = [json.loads((Path(folder) / f"{rank}.json").read_text()) for rank in range(options.processes)]
    print(json.dumps(pooled(ranks)))


if __name__ == "__main__":
    main()
