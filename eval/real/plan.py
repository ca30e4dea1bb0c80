"""The order of the runs: rates are widened on two tasks that are not scored until no best one is at an edge."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from foresight.studies.ledger import Record
from foresight.studies.runner import Runner

from .arms import ARMS, BUDGET
from .base import NAME
from .run import Cell, Measures

TUNING = ("add3", "reverse6")
"""Tasks on which rates are chosen and arms screened; they are never scored."""
FIRST = ("random", "hindsight", "full", "lora8", "foresight", "full_onward", "hindsight_onward", "circuit")
WIDEST = 6
"""Most rates that are tried of an arm."""


def area(measures: Measures) -> float:
    """Mean log held-out loss over the curve, lower is better."""
    return float(np.mean([math.log(loss + 0.01) for _, loss, _ in measures.curve]))


def cell(arm: str, task: str, rate: float, model: str = NAME, **more) -> Cell:
    earlier = {"earlier": task} if ARMS[arm].earlier else {}
    return Cell(arm, task, rate, model, **{"steps": ARMS[arm].steps, **earlier, **more})


def tune(
    runner: Runner, arm: str, model: str = NAME, tasks: Iterable[str] = TUNING, budget: float = BUDGET
) -> dict[float, float]:
    """Rate -> mean area over the tuning tasks; an arm's runs are made until its best rate is not at an edge.

    A rate of which a run has diverged counts as infinitely bad.
    """
    found: dict[float, float] = {}
    wanted = sorted(ARMS[arm].rates)
    while wanted:
        cells = {rate: [cell(arm, task, rate, model, budget=budget) for task in tasks] for rate in wanted}
        records = runner.run([one for of in cells.values() for one in of], arm)
        for rate in wanted:
            found[rate] = _mean([r for r in records if r.cell.rate == rate])
        best = min(found, key=lambda rate: found[rate])
        wanted = []
        if len(found) < WIDEST and best in (min(found), max(found)):
            wanted = [next_rate(best, best == max(found))]
    return found


def next_rate(rate: float, up: bool) -> float:
    """The next of 1, 3, 10, 30, ... times a power of ten."""
    exponent = math.floor(math.log10(rate) + 1e-9)
    three = rate / 10**exponent > 2
    steps = {(True, True): (1, 1), (True, False): (1, 0), (False, True): (3, 0), (False, False): (3, -1)}
    factor, shift = steps[three, up]
    return float(f"{factor}e{exponent + shift}")


def _mean(records: list[Record]) -> float:
    return float(np.mean([area(r.measures) if r.measures is not None else math.inf for r in records]))
