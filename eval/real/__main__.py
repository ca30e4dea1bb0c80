"""Run the proving ground, or continue it: masks against their controls on a real language model.

    python -m eval.real --work FOLDER [--arms random hindsight]    screen: rates of each arm on two tasks; hours of CPU
    python -m eval.real --work FOLDER --confirm                    the runs of confirm.yaml on the others; more hours
    python -m eval.real --work FOLDER --quick                      repeat four runs of the screen; 15 minutes

FOLDER takes the model, earlier runs and the runs. Every finished run is added to eval/results/real/ledger.jsonl, from
which a study continues on another machine; those of --quick are compared with it instead.
"""

from __future__ import annotations

import argparse
import os
from itertools import groupby
from pathlib import Path

MEMORY = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "100000000000", "MALLOC_TOP_PAD_": "500000000"}
"""Without these a third of the time goes into giving memory back and taking it again; read when a process starts."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder of the study")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--arms", nargs="+", help="screen only these arms")
    what.add_argument("--confirm", action="store_true", help="make the runs of confirm.yaml")
    what.add_argument("--quick", action="store_true", help="repeat four runs of the screen and compare them")
    parser.add_argument("--budget", type=float, help="screen masks at this share of all parameters (default .0029)")
    parser.add_argument("--workers", type=int, default=2, help="processes, each computing on one thread")
    parser.add_argument("--base", type=Path, help="folder of the base model; made in the work folder by default")
    asked = parser.parse_args()
    os.environ |= MEMORY | {"HF_HUB_OFFLINE": "1"}

    from foresight.studies.runner import RUNS, Runner, Work

    from .arms import ARMS, BUDGET
    from .base import NAME, make_base
    from .confirm import read
    from .ledger import restore, save
    from .plan import FIRST, tune
    from .quick import repeat
    from .run import Cell, Measures, run_cell

    place = asked.work / "bases" / NAME
    if asked.base and not place.exists():
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(asked.base.absolute())
    make_base(place)
    work = Work(run_cell, Cell, Measures)
    if asked.quick:
        with Runner(asked.work / "quick", work, asked.workers) as runner:
            print(repeat(runner))
        return
    restore(asked.work / RUNS)
    with Runner(asked.work / RUNS, work, asked.workers) as runner:
        if asked.confirm:
            for (task, seed), cells in groupby(read().cells(), lambda named: (named[1].task, named[1].seed)):
                runner.run([cell for _, cell in cells], f"{task}, seed {seed}")
                save(asked.work / RUNS)
            return
        for arm in asked.arms or [*FIRST, *(name for name in ARMS if name not in FIRST)]:
            rates = tune(runner, arm, budget=asked.budget or BUDGET)
            save(asked.work / RUNS)
            print(arm, {f"{rate:g}": round(value, 3) for rate, value in sorted(rates.items())}, flush=True)


if __name__ == "__main__":
    main()
