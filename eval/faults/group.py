"""Processes that belong together, as a launcher starts them: one, or several that know each other."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from .acts import NEVER, Moment
from .warm import child, foresight

Each = Callable[[int], Any]


def start(
    words: Sequence[str] | Sequence[Sequence[str]],
    log: Path,
    folder: Path | None,
    ranks: int = 1,
    moment: Moment = NEVER,
    victim: int = 0,
    before: Each | None = None,
) -> list[int]:
    """Start a command in one process or in a group; return the processes' ids.

    Args:
        words: the command line, or one per rank.
        folder: where acts are counted; None for not at all.
        moment, victim: which process dies, and when.
        before: called in each process with its rank, before the command.
    """
    lines = [words] * ranks if isinstance(words[0], str) else words
    if ranks == 1 and before is None:
        return [child(partial(foresight, lines[0], log, moment, folder), log)]
    port = _free_port()
    logs = [log if rank == victim else log.with_name(f"{log.stem}-{rank}.log") for rank in range(ranks)]
    return [
        child(partial(_member, rank, ranks, port, lines[rank], logs[rank], moment if rank == victim else NEVER,
                      folder, before), log)
        for rank in range(ranks)
    ]  # fmt: skip


def _member(
    rank: int,
    world: int,
    port: int,
    words: Sequence[str],
    log: Path,
    moment: Moment,
    folder: Path | None,
    before: Each | None,
) -> int:
    join(rank, world, port)
    if before is not None:
        before(rank)
    return foresight(words, log, moment, folder)


def join(rank: int, world: int, port: int) -> None:
    """Make this process one of a group, by the variables that launchers set."""
    os.environ.update(
        RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(world), LOCAL_WORLD_SIZE=str(world),
        MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), DS_ACCELERATOR="cpu",
    )  # fmt: skip
    import deepspeed

    # Collectives that only inference uses: DeepSpeed would compile them for a minute.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]
