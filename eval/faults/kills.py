"""kill -9 at any moment of each command that writes; typed again, it leaves what it leaves when nothing happens.

Most are killed at one of their acts in the folder, of which the reference says how many there are, in a child of a warm
process; a few from a cold start, when so many files are there.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

from .acts import Moment
from .case import Case, Verdict, broke, judged, typed
from .ground import Ground
from .jobs import JOBS, Job
from .leaves import Leaves, differences, leaves
from .references import LIMIT, Reference, reference, run
from .warm import await_all, child, cold

COUNTS = {
    "components": 12, "vectors": 8, "random": 8, "full": 8, "weights-random": 10, "accumulation": 6, "bf16": 8,
    "replay-share": 6, "shipped": 4, "weights-maps": 6, "zero2": 4, "compare": 20, "track": 20, "evidence": 20,
    "bench": 20, "maps": 20, "export-merged": 8, "export-delta": 6, "export-checkpoint": 6,
}  # fmt: skip
COLD = {"components": 5, "compare": 3, "track": 3, "evidence": 3, "bench": 2, "maps": 2, "export-merged": 2}
SHORT = {"components": 2, "export-merged": 1}
FROM_COLD = "cold: "
KILLED = (-signal.SIGKILL, -signal.SIGALRM)


def cases(seed: int, short: bool) -> list[Case]:
    """All of them; in the short form a few, all warm."""
    counts = SHORT if short else COUNTS
    names = [f"{job} {i}" for job, n in counts.items() for i in range(n)]
    names += [] if short else [f"{FROM_COLD}{job} {i}" for job, n in COLD.items() for i in range(n)]
    return [Case("kills", name, seed) for name in names]


def attempt(case: Case, ground: Ground) -> Verdict:
    """Kill the command, type it again, compare."""
    job = JOBS[case.name.removeprefix(FROM_COLD).rpartition(" ")[0]]
    known, rng = reference(ground, job.name), case.rng
    work = ground.cases / case.folder
    shutil.rmtree(work, ignore_errors=True)
    out, log = work / "out", work / "log.txt"
    words = job.words(ground, out)
    if case.name.startswith(FROM_COLD):
        did = [_kill_cold(words, out, log, rng, ground.reference(job.name))]
    else:
        did = []
        for again in range(1 + (rng.random() < 0.25)):
            line = [*words, *(job.again if again else ())]
            _put_away(log)
            moment, victim = _moment(rng, known), rng.randrange(job.ranks)
            ended = run(ground, job, line, log, out, moment=moment, victim=victim)
            fell = ended[victim].code in KILLED or any(log.parent.glob("log*.died"))
            did.append(_told(moment, victim, job, fell))
            if ended[victim].code not in (0, *KILLED) and not (again and job.refuses):
                outcome, words_ = broke(ended[victim]) or ("wrong", f"refused: {ended[victim].output[-400:]}")
                return Verdict(outcome, words_, "; ".join(did), (typed(words),))
    outcome, said = _again(job, words, ground, out, log, known)
    return Verdict(outcome, said, "; ".join(did), (typed(words), typed([*words, *job.again])))


def _again(job: Job, words: list[str], ground: Ground, out: Path, log: Path, known: Reference) -> tuple[str, str]:
    """The outcome of typing a command again after it was killed."""
    _put_away(log)
    line = [*words, *job.again]
    ended = run(ground, job, line, log, out)[0]
    if job.refuses and ended.code == 2:
        outcome, said = judged(ended, [out.name], None, None)
        if outcome != "right":
            return outcome, said
        if left := _usable(job, out, known.leaves):
            return "wrong", left
        return _elsewhere(job, ground, out, log, known)
    if (broken := broke(ended)) is not None:
        return broken
    if ended.code != 0:
        return "wrong", f"refused to go on: {ended.output[-400:]}"
    differ = differences(known.leaves, leaves(out, job.leaves))
    return ("wrong", differ) if differ else ("right", "equal")


def _put_away(log: Path) -> None:
    """Keep the logs and counters of the processes before apart from those of the next."""
    before = len({file.name.split("-")[0] for file in log.parent.glob("killed*")})
    for file in log.parent.glob("log*"):
        file.rename(file.with_name(f"killed{before}-{file.name}"))


def _elsewhere(job: Job, ground: Ground, out: Path, log: Path, known: Reference) -> tuple[str, str]:
    """Do as the refusal says: name another folder."""
    new = out.with_name("new")
    ended = run(ground, job, job.words(ground, new), log.with_name("new.txt"), new)[0]
    differ = differences(known.leaves, leaves(new, job.leaves)) if ended.code == 0 else ended.output[-400:]
    return ("wrong", differ) if differ else ("right", "refused, and equal in another folder")


def _usable(job: Job, out: Path, expected: Leaves) -> str:
    """What is wrong with what a killed command left, if a reader would take it for the whole; else empty."""
    if job.command == "maps":  # each file is whole or absent, and a folder of fewer maps is one
        found = leaves(out, job.leaves)
        return differences({k: v for k, v in expected.items() if k in found}, found)
    if job.name == "export-delta":
        whole = (out / "delta.json").exists() and (out / "delta.safetensors").exists()
        return differences(expected, leaves(out, job.leaves)) if whole else ""
    log = out.with_name("loaded.txt")
    ended = await_all([child(lambda: _load(out), log)], LIMIT, log)[0]
    if ended.code != 0:
        return ""
    weights = {k: v for k, v in expected.items() if ".safetensors" in k}
    return differences(weights, leaves(out, ("*.safetensors",)))


def _load(folder: Path) -> None:
    from transformers import AutoModelForCausalLM

    AutoModelForCausalLM.from_pretrained(folder)


def _moment(rng: random.Random, known: Reference) -> Moment:
    """An act, exactly or a few milliseconds into it; where the command has a worker, half of them of the worker."""
    late = rng.choice((0.0, rng.uniform(1e-4, 0.03)))
    if known.worker and rng.random() < 0.5:
        return Moment(rng.randint(1, known.worker), late, "worker")
    return Moment(rng.randint(1, max(1, known.acts)), late)


def _told(moment: Moment, victim: int, job: Job, fell: bool) -> str:
    late = f" + {1000 * moment.late:.1f} ms" if moment.late else ""
    rank = f" of rank {victim}" if job.ranks > 1 else ""
    return f"{'killed' if fell else 'spared'} the {moment.whose}{rank} at act {moment.at}{late}"


def _kill_cold(words: list[str], out: Path, log: Path, rng: random.Random, whole: Path) -> str:
    """Start it from nothing, and kill its group when it has so many of its files, a moment later."""
    goal, later = rng.randint(1, max(1, sum(1 for _ in _files(whole)))), rng.uniform(0, 0.05)
    process, started = cold(words, log), time.monotonic()
    while process.poll() is None and sum(1 for _ in _files(out)) < goal and time.monotonic() - started < LIMIT:
        time.sleep(0.01)
    time.sleep(later)
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    told = "killed" if process.returncode < 0 else "spared"
    return f"{told} a cold start at {goal} files + {1000 * later:.0f} ms"


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file() and path.name[0] != ".")
