"""A comparison from its settings to its results: run what is missing, then judge."""

from __future__ import annotations

import gc
from pathlib import Path

from rich.console import Console

from ..runner import RUNS, Runner, Work
from .folder import write_results
from .plan import Plan
from .results import Cell, Measures
from .settings import CompareConfig
from .summary import Summary


def run_comparison(out: str | Path, config: CompareConfig | None = None, console: Console | None = None) -> Summary:
    """Run a comparison in the folder `out`, or continue one that was interrupted there, and write its results.

    Workers are spawned processes, so a script that calls this needs an ``if __name__ == "__main__":`` guard.

    Returns:
        The summary, which results.json holds as well; `foresight.report` turns the folder into a page.
    """
    config = config or CompareConfig()
    plan = Plan(config)
    with Runner(Path(out) / RUNS, Work(_work, Cell, Measures), config.workers, plan.total, console) as runner:
        records = plan.carry_out(runner)
    return write_results(out, config, records)


def _work(cell: Cell, folder: Path) -> Measures:
    from .trial import run_cell  # what a trial needs of torch and transformers is loaded by the workers alone

    if gc.get_freeze_count() == 0:
        gc.freeze()  # the libraries stay: Trainer collects garbage after every run, and need not look through them
    return run_cell(cell, folder)
