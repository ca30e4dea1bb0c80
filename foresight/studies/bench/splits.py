"""Which runs a forecaster learns from and which it is judged on: never the same task, or never the same model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...common.errors import DataError, one_of
from ..compare.measures import grouped
from .corpus import Run

KINDS = ("task", "model")


@dataclass(frozen=True, eq=False)
class Split:
    """A task (of all models) or a model (with all tasks) left out; `held_out` names it, and `test` are its runs."""

    kind: str
    held_out: str
    train: tuple[Run, ...]
    test: tuple[Run, ...]


def splits(runs: Sequence[Run], kind: str) -> list[Split]:
    """Leave each task (or model) out in turn; none if there is only one. Raises ConfigError for another kind."""
    one_of("kind of split", kind, KINDS)
    groups = grouped((getattr(run, kind), run) for run in runs)
    left = {name: tuple(run for run in runs if getattr(run, kind) != name) for name in sorted(groups)}
    return [Split(kind, name, train, tuple(groups[name])) for name, train in left.items() if train]


def one_scorer(runs: Sequence[Run], scorer: str | None = None) -> list[Run]:
    """The runs of one scorer, so that critical means the same in all of them. Raises DataError if there are none, or if
    there are several scorers and none is named.
    """
    known = sorted({run.scorer for run in runs})
    if scorer is None and len(known) > 1:
        raise DataError(f"the runs are of the scorers {', '.join(known)}; say which with --scorer")
    found = [run for run in runs if run.scorer == (scorer or run.scorer)]
    if not found:
        raise DataError(f"no run of scorer {scorer!r}; the corpus has {', '.join(known) or 'no run at all'}")
    return found
