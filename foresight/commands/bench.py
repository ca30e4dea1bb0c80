"""`foresight forecasters bench`: which forecaster sees the future circuit, on recorded runs."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from pathlib import Path

from datasets import disable_progress_bars
from rich.table import Table
from transformers.utils import logging

from ..common.console import console
from ..common.errors import DataError, TrajectoryError
from ..common.files import write_json
from ..forecasters import FROM_WEIGHTS, forecaster_names
from ..model.components import component_table
from ..report.leaderboard import YARDSTICK_LABELS, write_leaderboard
from ..scoring.probes import ContrastProbe
from ..studies.bench.bench import Candidate, Entrant, run_bench
from ..studies.bench.corpus import SHIPPED, Run, read_runs
from ..studies.bench.from_weights import FromWeights, Opened
from ..studies.bench.leaderboard import PERSISTENCE, Leaderboard, leaderboard, sentences
from ..studies.bench.splits import KINDS, Split, one_scorer, splits
from ..studies.provenance import environment
from ..studies.track.recording import Recording
from ..training.scoring_budget import whole_probe
from ..training.scout import planned_rates
from .track import reopen

LEADERBOARD = "leaderboard.json"


def run(
    out: str,
    places: Sequence[str] | None,
    more: Sequence[str],
    names: Sequence[str],
    left_out: str | None,
    scorer: str | None,
    workers: int,
) -> None:
    """Run what is missing of a benchmark in the folder `out`; write leaderboard.json and leaderboard.html.

    Args:
        places: recorded runs, see `foresight.studies.bench.corpus.read_runs`; None for the shipped corpus.
        more: places besides those.
        names: forecasters, also those from weights (`FROM_WEIGHTS`); none for all but those. Persistence always
            takes part.
        left_out: "task" or "model"; None for both in turn.

    Raises:
        DataError: runs that cannot be split.
        ForesightError: a forecaster that cannot be asked.
    """
    runs = one_scorer(read_runs([*(places or [str(SHIPPED)]), *more]), scorer)
    named = dict.fromkeys([PERSISTENCE, *(names or forecaster_names())])
    candidates = [Candidate(name) for name in named if name not in FROM_WEIGHTS]
    # Forecasts from weights learn from no other run, so that it is all the same which are left out: asked once.
    from_weights = [FromWeights(name, open_run) for name in named if name in FROM_WEIGHTS]
    kinds = [left_out] if left_out else KINDS
    parts = [split for kind in kinds for split in splits(runs, kind)]
    if not parts:
        raise DataError(
            f"the {len(runs)} runs are of one task and one model, so nothing can be left out; name runs of another "
            "task with --runs"
        )
    screen = console()
    jobs: list[tuple[Split, Entrant]] = [(split, entrant) for split in parts for entrant in candidates]
    jobs += [(split, entrant) for split in parts if split.kind == parts[0].kind for entrant in from_weights]
    rows = run_bench(out, jobs, workers, screen)
    boards = [leaderboard(rows, kind) for kind in dict.fromkeys(split.kind for split in parts)]
    versions = environment()
    data = {"environment": versions, "boards": [board.to_json() for board in boards]}
    write_json(Path(out) / LEADERBOARD, json.loads(json.dumps(data)))
    page = write_leaderboard(boards, versions, Path(out) / "leaderboard.html")
    for board in boards:
        screen.print(_table(board))
        for sentence in sentences(board):
            screen.print(f"- {sentence}", markup=False)
    print(f"report: {page.resolve()}")


def open_run(run: Run) -> Opened:
    """Load what a forecast from weights needs of a tracked run, also in a worker process.

    Raises:
        ConfigError: the run is not part of a study.
        TrajectoryError: the study's settings give another probe than the one it was scored on.
    """
    assert run.recording is not None
    logging.disable_progress_bar()  # the benchmark has a bar of its own
    disable_progress_bars()
    study = run.recording.parents[3]
    setting = reopen(study)
    model, tokenizer = setting.load()
    args, pairs = setting.training, setting.tables(run.task, tokenizer)[2]
    probe = ContrastProbe.from_dataset(pairs, tokenizer, *whole_probe(args)) if pairs else None
    head = Recording.read(run.recording).head
    if probe is None or head.probes[run.task] != probe.hash:
        raise TrajectoryError(
            f"{run.recording} was scored on another probe than the settings in {study} make now; track the study again"
        )
    args = copy.copy(args)
    args.learning_rate = run.learning_rate  # of the strategy that it was tracked under
    rates = planned_rates(args, int(run.series.steps[-1]))
    return Opened(model, component_table(model, args.mlp_block), probe, rates)


def _table(board: Leaderboard) -> Table:
    table = Table(title=f"Leaving out each {board.split}", title_justify="left")
    table.add_column("forecaster")
    for column in ("gain, points", "interval", "precision", "newcomers", "seconds"):
        table.add_column(column, justify="right")
    for line in board.lines:
        gain = line.gain
        known = gain.low is not None and gain.high is not None and line.forecaster != PERSISTENCE
        table.add_row(
            YARDSTICK_LABELS.get(line.forecaster, line.forecaster),
            _percent(gain.mean, "+.1f"),
            f"[{_percent(gain.low, '+.1f')}, {_percent(gain.high, '+.1f')}]" if known else "",
            _percent(line.precision.mean),
            _percent(line.newcomers.mean),
            "" if line.seconds is None else f"{line.seconds:.3f}",
        )
    return table


def _percent(share: float | None, form: str = ".1f") -> str:
    return "" if share is None else format(100 * share, form)
