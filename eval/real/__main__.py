"""Run the proving ground, or continue it: masks against their controls on a real language model.

    python -m eval.real --work FOLDER [--arms random hindsight] [--workers 2] [--base FOLDER]

FOLDER takes the model, earlier runs and the runs; hours of CPU. Every finished run is added to
eval/results/real/ledger.jsonl, from which a study continues on another machine.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

MEMORY = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "100000000000", "MALLOC_TOP_PAD_": "500000000"}
"""Without these a third of the time goes into giving memory back and taking it again; read when a process starts."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder of the study")
    parser.add_argument("--arms", nargs="+", help="only these arms")
    parser.add_argument("--workers", type=int, default=2, help="processes, each computing on one thread")
    parser.add_argument("--base", type=Path, help="folder of the base model; made in the work folder by default")
    asked = parser.parse_args()
    os.environ |= MEMORY | {"HF_HUB_OFFLINE": "1"}

    from foresight.studies.runner import RUNS, Runner, Work

    from .arms import ARMS
    from .base import NAME, make_base
    from .ledger import restore, save
    from .plan import FIRST, tune
    from .run import Cell, Measures, run_cell

    place = asked.work / "bases" / NAME
    if asked.base and not place.exists():
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(asked.base.absolute())
    make_base(place)
    restore(asked.work / RUNS)
    with Runner(asked.work / RUNS, Work(run_cell, Cell, Measures), asked.workers) as runner:
        for arm in asked.arms or [*FIRST, *(name for name in ARMS if name not in FIRST)]:
            rates = tune(runner, arm)
            save(asked.work / RUNS)
            print(arm, {f"{rate:g}": round(value, 3) for rate, value in sorted(rates.items())}, flush=True)


if __name__ == "__main__":
    main()
