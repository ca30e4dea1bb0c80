"""The benchmark: every forecaster answers every question about runs that it has not learned from.

OUT/answers/<key>.json   what one forecaster made of one split, a row a question; the key holds everything that the
                         answers depend on, so that a benchmark goes on where it was broken off, and nothing stale is
                         ever taken for an answer
OUT/leaderboard.json     see `leaderboard`
"""

from __future__ import annotations

import hashlib
import inspect
import json
import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from joblib import Parallel, delayed
from rich.console import Console

from ... import __version__
from ...common.errors import ForesightError
from ...common.files import json_rows, write_json
from ...common.progress import progress_bar
from ...forecasters import Forecaster, make_forecaster
from ...policies.prior import LayerKindPrior
from .corpus import Run
from .questions import CIRCUIT, CUTOFFS, HORIZONS, Question, judge, questions
from .splits import Split

ANSWERS = "answers"
PRIOR, TWIN = "prior", "twin"
YARDSTICKS = (PRIOR, TWIN)
"""What forecasters are held against besides persistence: layer and kind alone, learned from the same runs as they
learn from; and the ceiling, a run that differs in the order of its data alone, at the step in question."""

Row = dict[str, Any]


class Entrant(Protocol):
    """Whoever answers questions."""

    @property
    def name(self) -> str: ...

    def code(self) -> str:
        """Text that changes when the answers would."""
        ...

    def ask(self, split: Split) -> Iterator[Row]:
        """The rows of the runs that the split leaves out."""
        ...


@dataclass(frozen=True)
class Candidate:
    """An `Entrant`: a forecaster by name, with parameters other than its defaults. It learns from the split's runs."""

    name: str
    params: dict[str, Any] = field(default_factory=dict)

    def build(self) -> Forecaster:
        return make_forecaster(self.name, **self.params)

    def code(self) -> str:
        """Its parameters and a digest of the files that define it: an edited forecaster is another one."""
        made = self.build()
        return json.dumps([made._identity(), source_digest(*type(made).__mro__[:-1])], sort_keys=True)

    def ask(self, split: Split) -> Iterator[Row]:
        """One fit a cutoff."""
        forecaster = self.build()
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
                    row = answer(self.name, split, run, question, prediction)
                    yield {**row, "abstained": forecaster.fallback_ is not None, "seconds": seconds}


def run_bench(
    out: str | Path, jobs: Sequence[tuple[Split, Entrant]], workers: int = 1, console: Console | None = None
) -> list[Row]:
    """Ask what has not been asked yet, in `workers` processes; the rows of all entrants and yardsticks.

    A row is a question: `forecaster`, `split` and `held_out`, what the run was (`model`, `task`, `learning_rate`,
    `seed`), `early` and `ahead` (`questions`), the measures of `judge`, `abstained` (the forecaster said that it fell
    back to persistence), `seconds` of fit and prediction.

    Raises:
        ForesightError: a forecaster that cannot be asked; the others' answers stay.
    """
    folder = Path(out) / ANSWERS
    files = [folder / f"{_key(split, entrant)}.json" for split, entrant in jobs]
    waiting = [(*job, file) for job, file in zip(jobs, files, strict=True) if not file.exists()]
    with progress_bar(console) as progress:
        bar = progress.add_task("forecasters", total=len(waiting))
        parallel = Parallel(workers, return_as="generator_unordered")
        for name, problem in parallel(delayed(_run)(*job) for job in waiting):
            if problem:
                raise ForesightError(f"forecaster {name!r}: {problem}")
            progress.update(bar, advance=1, description=name)
    rows = [row for file in files for row in json.loads(file.read_text())]
    for split in dict.fromkeys(split for split, _ in jobs):
        rows += _yardsticks(split)
    return rows


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


def answer(name: str, split: Split, run: Run, question: Question, prediction: np.ndarray, scores: bool = True) -> Row:
    """The row of one answer, judged (see `judge` for `scores`)."""
    return {
        "forecaster": name, "split": split.kind, "held_out": split.held_out, "model": run.model, "task": run.task,
        "learning_rate": run.learning_rate, "seed": run.seed, "early": question.early, "ahead": question.ahead,
        **judge(prediction, run.series, question, scores), "abstained": False, "seconds": float("nan"),
    }  # fmt: skip


def source_digest(*of: Any) -> str:
    """Hex digest (16 characters) of the files that define classes, functions or modules."""
    files = {inspect.getsourcefile(one) for one in of if getattr(one, "__module__", "") != "abc"}
    digest = hashlib.sha256()
    for file in sorted(str(file) for file in files if file):
        digest.update(Path(file).read_bytes())
    return digest.hexdigest()[:16]


def _run(split: Split, entrant: Entrant, file: Path) -> tuple[str, str | None]:
    """Answer in a worker; what goes wrong comes back as a message, as forecasters may be anybody's code."""
    try:
        write_json(file, json_rows(entrant.ask(split)))
    except ForesightError as error:
        return entrant.name, str(error)
    except Exception as error:  # of somebody else's code; the others' answers stay
        place = traceback.extract_tb(error.__traceback__)[-1]
        return entrant.name, f"{type(error).__name__}: {error} ({place.filename}:{place.lineno})"
    return entrant.name, None


def _key(split: Split, entrant: Entrant) -> str:
    text = json.dumps(
        [__version__, entrant.name, entrant.code(), split.kind, split.held_out, CUTOFFS, HORIZONS, CIRCUIT,
         [run.hash for run in split.train], [run.hash for run in split.test]]
    )  # fmt: skip
    return hashlib.sha256(text.encode()).hexdigest()[:16]
