"""Which runs a forecaster learns from and which it is judged on: never the same task, or never the same model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...common.errors import DataError, one_of
from .corpus import Run

KINDS = ("task", "model")


@dataclass(frozen=True, eq=False)
class Split:
    """One task or model left out.

    Attributes:
        kind: what is left out, "task" or "model".
        held_out: its name.
        train: runs of everything else: a task is left out with all models, a model with all tasks.
        test: its runs.
    """

    kind: str
    held_out: str
    train: tuple[Run, ...]
    test: tuple[Run, ...]


def splits(runs: Sequence[Run], kind: str) -> list[Split]:
    """Leave each task (or model) out in turn; none if there is only one. Raises ConfigError for another kind."""
    one_of("kind of split", kind, KINDS)
    names = sorted({getattr(run, kind) for run in runs})
    if len(names) < 2:
        return []
    return [Split(kind, name, tuple(r for r in runs if getattr(r, kind) != name),
                  tuple(r for r in runs if getattr(r, kind) == name)) for name in names]  # fmt: skip


def one_scorer(runs: Sequence[Run], scorer: str | None = None) -> list[Run]:
    """The runs of one scorer, so that critical means the same in all of them.

    Raises:
        DataError: none of that scorer, or runs of several scorers and none named.
    """
    known = sorted({run.scorer for run in runs})
    if scorer is None and len(known) > 1:
        raise DataError(f"the runs are of the scorers {', '.join(known)}; say which with --scorer")
    found = [run for run in runs if run.scorer == (scorer or run.scorer)]
    if not found:
        raise DataError(f"no run of scorer {scorer!r}; the corpus has {', '.join(known) or 'no run at all'}")
    return found
