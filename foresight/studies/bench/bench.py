"""The benchmark: every forecaster answers every question about runs that it has not learned from.

OUT/runs/<key>/result.json   what one forecaster answered on one split, a row per question
OUT/leaderboard.json         see `leaderboard`
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from ...common.numbers import json_rows
from ...forecasters import make_forecaster
from ...policies.prior import LayerKindPrior
from ..provenance import cell_key, plugin_digests
from ..runner import RUNS, Runner, Work
from .corpus import Run
from .questions import CIRCUIT, CUTOFFS, HORIZONS, Question, judge, questions
from .splits import Split

PRIOR, TWIN = "prior", "twin"
YARDSTICKS = (PRIOR, TWIN)
"""What forecasters are compared with besides persistence: layer and kind alone, learned from the same runs; and the
ceiling, a run that differs only in the order of its data, at the step in question."""

Row = dict[str, Any]


@dataclass(frozen=True)
class Entrant:
    """What answers questions."""

    name: str

    def settings(self) -> dict[str, Any]:
        """What its answers depend on besides its name and the runs: JSON."""
        return {}

    def ask(self, split: Split) -> Iterator[Row]:
        """The rows of the runs that the split leaves out."""
        raise NotImplementedError


@dataclass(frozen=True)
class Candidate(Entrant):
    """A forecaster by name, which learns from the runs that the split does not leave out."""

    def settings(self) -> dict[str, Any]:
        """Its parameters, and digests of files outside foresight that define it: edited code is another forecaster."""
        made = make_forecaster(self.name)
        return {"forecaster": made._identity(), "plugins": plugin_digests(type(made).__mro__)}

    def ask(self, split: Split) -> Iterator[Row]:
        forecaster = make_forecaster(self.name)
        if forecaster.learns_from_past() and split.train:
            forecaster.pretrain([run.series for run in split.train])
        for run in split.test:
            for cutoff, group in groupby(questions(run.series), key=lambda question: question.cutoff):
                asked, began = list(group), time.perf_counter()
                now = int(run.series.steps[cutoff])
                forecaster.fit(run.series.until(now))
                fit = (time.perf_counter() - began) / len(asked)
                for question in asked:
                    began = time.perf_counter()
                    prediction = forecaster.predict(int(run.series.steps[question.target]) - now)
                    seconds = fit + time.perf_counter() - began
                    abstained = forecaster.fallback_ is not None
                    yield answer(self.name, split, run, question, prediction, abstained=abstained, seconds=seconds)


@dataclass(frozen=True)
class Cell:
    """One forecaster's answers on one split, whose runs are hashes here; `asked` are the cutoffs, the horizons and the
    size of a circuit (see `questions`).
    """

    forecaster: str
    settings: dict[str, Any]
    split: str
    held_out: str
    train: list[str]
    test: list[str]
    asked: list[Any]

    @property
    def label(self) -> str:
        return f"forecaster {self.forecaster!r}"


def run_bench(
    out: str | Path, jobs: Sequence[tuple[Split, Entrant]], workers: int = 1, console: Console | None = None
) -> list[Row]:
    """Ask what has not been asked yet, and return the rows (see `answer`) of all entrants and yardsticks.

    With 1 worker it asks in this process. Raises ForesightError if a forecaster fails; the others' answers stay.
    """
    asked = [list(CUTOFFS), list(HORIZONS), CIRCUIT]
    cells = []
    for split, entrant in jobs:
        train, test = ([run.hash for run in runs] for runs in (split.train, split.test))
        cells.append(Cell(entrant.name, entrant.settings(), split.kind, split.held_out, train, test, asked))
    by_key = {cell_key(cell): job for cell, job in zip(cells, jobs, strict=True)}
    work = Work(partial(_ask, by_key), Cell, list[Row], recorded=())
    with Runner(Path(out) / RUNS, work, workers if workers > 1 else 0, len(cells), console) as runner:
        records = runner.run(cells, "forecasters")
    rows = [row for record in records for row in record.measures or []]
    for split in dict.fromkeys(split for split, _ in jobs):
        rows += _yardsticks(split)
    return rows


def _ask(jobs: Mapping[str, tuple[Split, Entrant]], cell: Cell, folder: Path) -> list[Row]:
    split, entrant = jobs[cell_key(cell)]
    return json_rows(entrant.ask(split))


def _yardsticks(split: Split) -> Iterator[Row]:
    prior = LayerKindPrior.learn(run.series for run in split.train)
    for run in split.test:
        others = [o for o in split.test if o.setting == run.setting and o.seed != run.seed]
        known = set(run.series.kind.tolist()) <= prior.kinds  # a model left out may have kinds that no other has
        ranks = prior.scores(run.series) if known else None
        for question in questions(run.series):
            if ranks is not None:
                yield answer(PRIOR, split, run, question, ranks, scores=False)
            for other in others:
                at = np.flatnonzero(other.series.steps == run.series.steps[question.target])
                if len(at):
                    yield answer(TWIN, split, run, question, other.series.values[:, at[0]])


def answer(
    name: str, split: Split, run: Run, question: Question, prediction: np.ndarray, scores: bool = True, **more: Any
) -> Row:
    """The row of one judged answer, see `judge`; `more` is `abstained` (the forecaster said that it fell back to
    persistence) and `seconds` of fit and prediction.
    """
    return {
        "forecaster": name, "split": split.kind, "held_out": split.held_out, "model": run.model, "task": run.task,
        "learning_rate": run.learning_rate, "seed": run.seed, "early": question.early, "ahead": question.ahead,
        **judge(prediction, run.series, question, scores), "abstained": False, "seconds": float("nan"), **more,
    }  # fmt: skip
