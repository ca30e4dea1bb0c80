"""Whether a comparison could show anything: did some arm learn each task, and could the base model do what was to be
kept?

An arm has learned a task if its held-out loss fell from the first evaluation to the last, with an interval over seeds
and base models that is clear of 0; with one run, if it fell at all. The definition is this project's own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ...common.intervals import mean_interval
from .measures import grouped
from .results import Record

ABLE = 0.1
"""Held-out accuracy of a base model that can do a task, at least: below, there is nothing to forget."""


def opening(whole: Mapping[str, Sequence[Record]], able: Mapping[str, float]) -> str:
    """What a verdict has to begin with; empty if some arm learned every task, and the base can do every retained one.

    Args:
        whole: scored runs by arm, the broken ones left out.
        able: retained task -> accuracy of the base models.
    """
    tasks = dict.fromkeys(record.cell.task for runs in whole.values() for record in runs)
    unlearned = [task for task in tasks if not any(_learned(runs, task) for runs in whole.values())]
    weak = [f"{task} (accuracy {able[task]:.0%})" for task in able if able[task] < ABLE]
    said = []
    if unlearned:
        said.append(
            f"No arm learned {', '.join(unlearned)}, so differences there mean nothing: train longer or faster."
        )
    if weak:
        said.append(f"The base model cannot do {', '.join(weak)}, so nothing can be forgotten there.")
    return " ".join(said)


def _learned(runs: Sequence[Record], task: str) -> bool:
    curves = [(r.cell.unit[1], r.measures.curve) for r in runs if r.cell.task == task and r.measures]
    falls = grouped((unit, curve[0].loss - curve[-1].loss) for unit, curve in curves if len(curve) > 1)
    if not falls:
        return False
    found = mean_interval({(str(unit), unit): sum(of) / len(of) for unit, of in falls.items()})
    return (found.mean if found.low is None else found.low) > 0  # type: ignore[operator]  # there are some
