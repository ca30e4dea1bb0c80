"""Two processes that differ: both refuse at the start, and name the difference."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .case import Case, Verdict, judged, typed
from .ground import Ground, emptied, read_rows, write_rows
from .group import start
from .jobs import train_words
from .references import LIMIT
from .warm import await_all

COMMON: dict[str, Any] = dict(
    policy="reactive", per_device_train_batch_size=2, max_steps=4, save_strategy="no", save_steps=None,
    task=None, task_examples=None, task_eval_examples=None, task_contrast_examples=None,
)  # fmt: skip


@dataclass(frozen=True)
class Difference:
    """What the second process has otherwise, and what a refusal has to hold.

    Attributes:
        settings: of the second process; functions of ground and folder stand for files that are made.
        names: as in `case.judged`.
        before: called in the second process before the command.
        shared: settings that both have.
    """

    title: str
    names: str
    settings: dict[str, Any] = field(default_factory=dict)
    before: Callable[[], None] | None = None
    shared: dict[str, Any] = field(default_factory=dict)


def _rows(of: str, change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]) -> Callable[[Ground, Path], Path]:
    """A copy of a table with a change, under the same file name."""

    def made(ground: Ground, folder: Path) -> Path:
        source: Path = getattr(ground, of)
        folder.mkdir(parents=True, exist_ok=True)
        write_rows(folder / source.name, change(read_rows(source)))
        return folder / source.name

    return made


def _other_base(ground: Ground, folder: Path) -> Path:
    """Other weights in a folder of the same name."""
    shutil.copytree(ground.other, folder / ground.base.name, dirs_exist_ok=True)
    return folder / ground.base.name


def _other_version() -> None:
    from foresight.training import ranks

    real = ranks.version
    ranks.version = lambda name: "9.9.9" if name == "transformers" else real(name)


DIFFERENCES: tuple[Difference, ...] = (
    Difference("learning rate", "learning_rate + 0.1", {"learning_rate": 0.1}),
    Difference("seed", "seed", {"seed": 8}),
    Difference("steps", "max_steps + 6", {"max_steps": 6}),
    Difference("budget", "budget + 0.1", {"budget": 0.1}),
    Difference("policy", "policy + static", {"policy": "static", "remask_every": None}),
    Difference("re-masks", "remask_every", {"remask_every": 4}),
    Difference("probe", "probe_examples", {"probe_examples": 4}),
    Difference("accumulation", "gradient_accumulation_steps", {"gradient_accumulation_steps": 2}),
    Difference("batch", "per_device_train_batch_size", {"per_device_train_batch_size": 4}),
    Difference("decay", "weight_decay", {"weight_decay": 0.1}),
    Difference("betas", "adam_beta2", {"adam_beta2": 0.9}),
    Difference("saving", "save_steps | save_strategy", {"save_strategy": "steps", "save_steps": 2}),
    Difference("logging", "logging_steps", {"logging_steps": 1}),
    Difference("dtype", "bf16 | dtype | base", {"dtype": "bfloat16", "bf16": "true"}),
    Difference("transformers", "version of transformers + 9.9.9", before=_other_version),
    Difference("base", "base", {"model": _other_base}),
    Difference("a row fewer", "training rows", {"dataset": _rows("rows", lambda rows: rows[:-1])}),
    Difference("a row twice", "training rows", {"dataset": _rows("rows", lambda rows: [*rows[:5], *rows[4:]])}),
    Difference("pairs", "scored", {"contrast": _rows("pairs", lambda rows: [*rows[1:], rows[0]])}),
    Difference("retained rows", "retained", {"retained": _rows("kept", lambda rows: rows[1:])},
               shared={"retained": True, "replay_share": 0.25}),
)  # fmt: skip
SHORT = ("learning rate",)


def cases(seed: int, short: bool) -> list[Case]:
    """One per difference; the short form has one, as a group takes seconds."""
    return [Case("ranks", one.title, seed) for one in DIFFERENCES if not short or one.title in SHORT]


def attempt(case: Case, ground: Ground) -> Verdict:
    """Start both; each has to refuse."""
    difference = next(one for one in DIFFERENCES if one.title == case.name)
    work = ground.cases / case.folder
    emptied(work)
    shared = COMMON | {"deepspeed": ground.zero, "dataset": ground.rows, "contrast": ground.pairs}
    shared |= {k: ground.kept if k == "retained" else v for k, v in difference.shared.items()}
    own = {k: v(ground, work / "second") if callable(v) else v for k, v in difference.settings.items()}
    lines = [train_words(ground, work / "out", **(shared | more)) for more in ({}, own)]
    log = work / "log.txt"

    def before(rank: int) -> None:
        if rank and difference.before is not None:
            difference.before()

    both = await_all(start(lines, log, None, 2, before=before), LIMIT, log)
    outcomes = [judged(ended, [f"rank 1 + {difference.names}"], None, None) for ended in both]
    outcome, said = next((one for one in outcomes if one[0] != "right"), outcomes[0])
    return Verdict(outcome, said, "the second process differs", tuple(map(typed, lines)))
