"""Runs that nothing happens to: what each job leaves, and how many moments it has. Made once, kept in the folder."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from .acts import counted
from .ground import Ground
from .group import start
from .jobs import JOBS, Job
from .leaves import Leaves, leaves
from .warm import Ended, await_all

LIMIT = 300.0
"""Seconds that any one command may take."""


@dataclass(frozen=True)
class Reference:
    """What a job left, how many acts the command and its first worker took, and the seconds it needed."""

    leaves: Leaves
    acts: int
    worker: int
    seconds: float


class ReferenceError(Exception):
    """A run that nothing happened to failed, so that nothing can be compared with it."""


def reference(ground: Ground, name: str) -> Reference:
    """The reference of a job, made with all that it needs if it is not there."""
    kept = ground.references / f"{name}.json"
    for other in () if kept.exists() else JOBS[name].needs:
        reference(ground, other)
    with made_once(kept) as missing:
        if missing:
            kept.write_text(json.dumps(_make(ground, JOBS[name]).__dict__))
    return Reference(**json.loads(kept.read_text()))


@contextlib.contextmanager
def made_once(path: Path) -> Iterator[bool]:
    """Whether a file is missing; what makes it is inside, and the others wait for it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(f".{path.name}.lock")):
        yield not path.exists()


def _make(ground: Ground, job: Job) -> Reference:
    out, log = ground.reference(job.name), ground.references / "logs" / f"{job.name}.log"
    shutil.rmtree(out, ignore_errors=True)
    out.parent.mkdir(parents=True, exist_ok=True)
    ended = run(ground, job, job.words(ground, out), log, out)
    if ended[0].code != 0:
        raise ReferenceError(f"the reference {job.name} failed with {ended[0].code}: {ended[0].output[-3000:]}")
    acts = counted(log.with_suffix(".command")), counted(log.with_suffix(".worker"))
    return Reference(leaves(out, job.leaves), *acts, ended[0].seconds)


def run(ground: Ground, job: Job, words: list[str], log: Path, out: Path, **kill: Any) -> list[Ended]:
    """Run a job's command, in as many processes as it has; `kill` is of `group.start`."""
    return await_all(start(words, log, out, job.ranks, **kill), LIMIT, log)
