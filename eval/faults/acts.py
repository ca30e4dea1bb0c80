"""Moments of a process: its acts in a folder and its optimizer steps. They are counted; at one of them it dies.

Acts are seen by an audit hook, so that whatever writes, renames or removes a file is counted, without a change to it.
Files that native code writes are seen when they are synced and renamed.
"""

from __future__ import annotations

import os
import signal
import struct
import sys
from dataclasses import dataclass
from pathlib import Path

_EVENTS = frozenset(("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir"))
NUMBER = struct.Struct("q")


@dataclass(frozen=True)
class Moment:
    """When a process is to die: before its act number `at`, or `late` seconds after that began; `at` 0 for never.

    Attributes:
        whose: "command", or "worker" for the first process that the command starts for its cells.
    """

    at: int = 0
    late: float = 0.0
    whose: str = "command"


NEVER = Moment()


def count_acts(folder: Path, counter: Path, moment: Moment, whose: str = "command") -> None:
    """Count this process's acts in a folder into the file `counter`, as int64, and die at the moment if it is its own.
    Of several that share a counter, one dies.

    A late death is by SIGALRM, which ends a process without a handler for it as SIGKILL does: at once, also within
    native code.
    """
    root, at = str(folder.resolve()), moment.at if moment.whose == whose else 0
    mark = counter.with_suffix(".died")
    file = os.open(counter, os.O_RDWR | os.O_CREAT)
    done = 0

    def act() -> None:
        nonlocal done
        done += 1
        os.pwrite(file, NUMBER.pack(done), 0)
        if done != at or mark.exists():
            return
        mark.touch()
        if not moment.late:
            os.kill(os.getpid(), signal.SIGKILL)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, moment.late)

    def hook(event: str, args: tuple) -> None:
        if event in _EVENTS and isinstance(path := args[0], (str, os.PathLike)) and os.fspath(path).startswith(root):
            act()

    from torch.optim.optimizer import register_optimizer_step_post_hook

    register_optimizer_step_post_hook(lambda *_: act())
    sys.addaudithook(hook)


def counted(counter: Path) -> int:
    """How many acts there have been."""
    return NUMBER.unpack(counter.read_bytes())[0] if counter.exists() and counter.stat().st_size else 0
