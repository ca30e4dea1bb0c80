"""The campaign: cases of all kinds in warm processes, what came of each kept as it ends, so that a rerun goes on."""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
import shutil
import signal
import threading
import time
import traceback
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, replace
from pathlib import Path

from foresight.common.console import console, progress_bar

from .case import Case, Verdict
from .ground import Ground, make
from .warm import environment, forkserver

KEPT = "cases.jsonl"
Tried = list[tuple[Case, Verdict]]


def campaign(
    out: Path, kinds: Sequence[str], seed: int, short: bool, workers: int, only: Sequence[str] = (), quiet: bool = False
) -> Tried:
    """Try every case of some kinds, except those that an earlier call in the folder has tried.

    Args:
        only: names of cases, or parts of names; these are tried again, and their folders stay.
    """
    from .kinds import KINDS

    out = out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    os.environ.update(environment(out))
    every = [case for kind in kinds for case in KINDS[kind].cases(seed, short)]
    if only:
        named = [case for case in every if case.name in only]
        every = named or [case for case in every if any(part in case.name for part in only)]
    known = {} if only else _known(out / KEPT)
    tried = [(case, known[case]) for case in every if case in known]
    missing = [case for case in every if case not in known]
    context = forkserver(groups=any(case.kind == "ranks" or "zero" in case.name for case in missing))
    ground = Ground(out)
    with progress_bar(console(), disable=quiet) as progress, ProcessPoolExecutor(workers, context, follow) as pool:
        bar = progress.add_task("getting warm", total=len(every), completed=len(tried))
        pool.submit(prepare, ground, sorted({case.kind for case in missing}), short).result()
        for future in as_completed([pool.submit(try_case, case, ground, bool(only)) for case in missing]):
            case, verdict = future.result()
            tried.append((case, verdict))
            progress.update(bar, advance=1, description=case.kind)
            with (out / KEPT).open("a") as file:
                file.write(json.dumps({"case": asdict(case), "verdict": asdict(verdict)}) + "\n")
            if verdict.outcome != "right":
                words = f"{verdict.outcome}: {case.kind}: {case.name}: {verdict.did}: {verdict.words}"
                progress.console.print(words[:400], markup=False)
    order = {case: i for i, case in enumerate(every)}
    return sorted(tried, key=lambda one: order[one[0]])


def prepare(ground: Ground, kinds: Sequence[str], short: bool) -> None:
    """In a warm process: what cases of these kinds share."""
    from .kinds import KINDS
    from .warm import await_all, child

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    log = ground.root / "ground.log"
    (ended,) = await_all([child(lambda: make(ground), log)], 300, log)
    if ended.code != 0:
        raise RuntimeError(f"the ground cannot be made: {ended.output[-3000:]}")
    for kind in kinds:
        if hasattr(KINDS[kind], "prepare"):
            KINDS[kind].prepare(ground, short)


def try_case(case: Case, ground: Ground, keep: bool = False) -> tuple[Case, Verdict]:
    """In a warm process: one case. An error of the campaign itself says so, and counts as a traceback."""
    from .kinds import KINDS

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    started, used = time.monotonic(), _cpu()
    try:
        verdict = KINDS[case.kind].attempt(case, ground)
    except Exception:  # a fault of the campaign is one of its results, and the other cases go on
        verdict = Verdict("traceback", f"the campaign itself failed: {traceback.format_exc()[-1500:]}")
    if verdict.outcome == "right" and not keep:
        shutil.rmtree(ground.cases / case.folder, ignore_errors=True)
    return case, replace(verdict, seconds=round(time.monotonic() - started, 2), cpu=round(_cpu() - used, 2))


def follow() -> None:
    """In a warm process: end when the campaign does, however it ends."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _cpu() -> float:
    """Seconds on a core of this process and of its children that have ended."""
    both = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(used.ru_utime + used.ru_stime for used in both)


def _known(path: Path) -> dict[Case, Verdict]:
    found = {}
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            one = json.loads(line)
        except ValueError:  # the last line of a campaign that was killed
            continue
        found[Case(**one["case"])] = Verdict(**{**one["verdict"], "commands": tuple(one["verdict"]["commands"])})
    return found
