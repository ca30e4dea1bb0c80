"""Commands in children of a process that has imported everything, so that each costs its work and not its imports."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from .acts import NEVER, Moment, count_acts

ROOT = Path(__file__).parents[2]
PRELOAD = """
    foresight.commands.train foresight.commands.compare foresight.commands.track foresight.commands.bench
    foresight.commands.maps foresight.training.export foresight.studies.compare.trial foresight.studies.evidence.trial
    foresight.training.scout foresight.training.retention foresight.forecasters.regressions foresight.policies.foresight
    foresight.policies.simple foresight.policies.single_weights.foresight transformers.models.llama.modeling_llama
    sklearn.metrics eval.faults.kinds
""".split()
GROUPS = ["deepspeed", "deepspeed.runtime.zero.stage_1_and_2", "foresight.bank.zero", "torch._inductor.compile_fx"]
"""What groups of processes import besides."""


def environment(folder: Path) -> dict[str, str]:
    """Variables of every process of the campaign: no network, one thread, caches of its own."""
    return {
        "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false",
        "HF_DATASETS_CACHE": str(folder / "datasets"), "HF_DATASETS_DISABLE_PROGRESS_BARS": "1", "COLUMNS": "400",
        "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH")))), "DS_ACCELERATOR": "cpu",
        "PYTHONWARNINGS": "ignore:resource_tracker",  # of killed processes, which cannot tidy up
    }  # fmt: skip


def forkserver(groups: bool) -> Any:
    """The context whose processes begin warm."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([*PRELOAD, *(GROUPS if groups else ())])
    return context


@dataclass(frozen=True)
class Ended:
    """How a process ended: exit code, negative for a signal, None when it took too long; and what it wrote."""

    code: int | None
    output: str
    seconds: float


def child(act: Callable[[], Any], log: Path) -> int:
    """Fork a process that acts with its output in a log and leads a process group; returns its id."""
    log.parent.mkdir(parents=True, exist_ok=True)
    pid = os.fork()
    if pid == 0:
        _act(act, log)
    return pid


def await_all(pids: Sequence[int], limit: float, log: Path) -> list[Ended]:
    """Wait for processes that belong together, then end what is left of their groups.

    When one of them fails or is killed, the others have a few seconds, as under a launcher.
    """
    started = time.monotonic()
    codes: dict[int, int | None] = {}
    deadline = started + limit
    failed = False
    while len(codes) < len(pids) and time.monotonic() < deadline:
        for pid in pids:
            if pid not in codes and (found := os.waitpid(pid, os.WNOHANG))[0]:
                codes[pid] = os.waitstatus_to_exitcode(found[1])
                if codes[pid] and not failed:
                    failed, deadline = True, min(deadline, time.monotonic() + 20)
        time.sleep(0.005)
    seconds = time.monotonic() - started
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
        if pid not in codes:
            os.waitpid(pid, 0)
    output = log.read_text(errors="replace") if log.exists() else ""
    late = -signal.SIGKILL if failed else None
    return [Ended(codes.get(pid, late), output, seconds) for pid in pids]


def command(words: Sequence[str], log: Path, limit: float, moment: Moment = NEVER, folder: Path | None = None) -> Ended:
    """Run `foresight WORDS` in a child; with a folder, its acts there are counted, and it dies at the moment."""
    return await_all([child(partial(foresight, words, log, moment, folder), log)], limit, log)[0]


def cold(words: Sequence[str], log: Path) -> subprocess.Popen:
    """Start `python -m foresight WORDS` from nothing, as the leader of a group."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a") as file:
        start = [sys.executable, "-m", "foresight", *words]
        return subprocess.Popen(start, stdout=file, stderr=file, stdin=subprocess.DEVNULL, start_new_session=True)


def foresight(words: Sequence[str], log: Path, moment: Moment, folder: Path | None) -> int:
    """In a child: the command itself. Processes that it starts for cells are forked from it, warm as well."""
    from foresight.cli import main
    from foresight.studies import runner

    runner.get_context = lambda method: multiprocessing.get_context("fork")
    if folder is not None:
        begin = runner._start_worker

        def start_worker(*args: Any) -> None:
            begin(*args)
            count_acts(folder, log.with_suffix(".worker"), moment, "worker")

        runner._start_worker = start_worker
        count_acts(folder, log.with_suffix(".command"), moment)
    return main(words)


def _act(act: Callable[[], Any], log: Path) -> NoReturn:
    import torch

    code = 1
    try:
        os.setsid()
        with log.open("a") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115 (as long as the process lives)
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115
        torch.set_num_threads(1)
        code = act() or 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)
