"""The confirming runs: arms at rates that were chosen before, on tasks that no choice was made on.

`confirm.yaml` is committed before the first of them; it says which arms, which tasks, and which comparison decides.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import yaml

from foresight.studies.ledger import decode

from .arms import ARMS, BUDGET
from .base import NAME
from .plan import TUNING
from .run import Cell
from .tasks import EASIER, TASKS

FILE = Path(__file__).with_name("confirm.yaml")
SAME, EASY, OTHERS = "same task", "easier task", "other tasks"


@dataclass(frozen=True)
class Entry:
    """An arm as it is confirmed.

    Attributes:
        earlier: what its earlier runs were trained on, for an arm that needs some: other rows of the "same task", the
            "easier task" of a family (tasks without one are left out), or all "other tasks" of the study.
    """

    arm: str
    rate: float
    steps: int = 60
    budget: float = BUDGET
    earlier: str = SAME


@dataclass(frozen=True)
class Contrast:
    """The question: is `arm` better than the best of `against`?"""

    arm: str
    against: tuple[str, ...]


@dataclass(frozen=True)
class Confirmation:
    """What `confirm.yaml` says; entries and contrasts by the name that reports use."""

    tasks: tuple[str, ...]
    seeds: tuple[int, ...]
    entries: Mapping[str, Entry]
    contrasts: Mapping[str, Contrast]

    @property
    def compared(self) -> set[str]:
        """The entries that a contrast needs."""
        return {name for contrast in self.contrasts.values() for name in (contrast.arm, *contrast.against)}

    def cell(self, name: str, task: str, seed: int, model: str = NAME) -> Cell | None:
        """The run of an entry; None where the task has no easier one."""
        entry = self.entries[name]
        earlier = ""
        if ARMS[entry.arm].earlier:
            others = " ".join(other for other in self.tasks if other != task)
            earlier = {SAME: task, EASY: EASIER.get(task, ""), OTHERS: others}[entry.earlier]
            if not earlier:
                return None
        cell = Cell(entry.arm, task, entry.rate, model, seed, draw=seed, steps=entry.steps, budget=entry.budget)
        return replace(cell, earlier=earlier)

    def cells(self, model: str = NAME) -> Iterator[tuple[str, Cell]]:
        """Every run with the name of its entry, in the order in which they are made.

        Seed by seed; of a seed the runs that the contrasts need first, task by task, and then the others. The first run
        of a task makes the earlier run that others wait for, so those that need none follow it.
        """
        needing = [name for name, entry in self.entries.items() if ARMS[entry.arm].earlier]
        order = [*needing[:1], *(name for name in self.entries if name not in needing), *needing[1:]]
        first = [name for name in order if name in self.compared]
        rest = [name for name in order if name not in self.compared]
        for seed in self.seeds:
            for names in (first, rest):
                for task in self.tasks:
                    for name in names:
                        if (cell := self.cell(name, task, seed, model)) is not None:
                            yield name, cell


def read(file: Path = FILE) -> Confirmation:
    """Read and check it.

    Raises:
        ValueError: a name that does not exist, or a task that rates were chosen on; DataError: an unknown key.
    """
    found = decode(Confirmation, yaml.safe_load(file.read_text()))
    for what, wrong in {
        "tasks": set(found.tasks) - set(TASKS),
        "tasks on which rates were chosen": set(found.tasks) & set(TUNING),
        "arms": {entry.arm for entry in found.entries.values()} - set(ARMS),
        "earlier runs": {entry.earlier for entry in found.entries.values()} - {SAME, EASY, OTHERS},
        "compared entries": found.compared - set(found.entries),
    }.items():
        if wrong:
            raise ValueError(f"{file}: {what} that cannot be confirmed: {', '.join(sorted(wrong))}")
    return found
