"""From answers to a leaderboard: which forecaster sees more of the future circuit than persistence, and by how much.

Every number is a mean over tasks (of the mean over a task's runs and questions), and intervals are over tasks, see
`foresight.common.intervals`: runs of one task share its circuit and are no independent evidence.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ...common.intervals import Interval, mean_interval
from ...common.numbers import bracketed
from ..compare.baseline import choose
from ..compare.measures import grouped
from .bench import PRIOR, TWIN, YARDSTICKS, Row
from .questions import CIRCUIT

SCHEMA = 1
PERSISTENCE = "persistence"
MEASURES = ("precision", "newcomers", "spearman", "ndcg", "gain")
_QUESTION = ("split", "held_out", "model", "task", "learning_rate", "seed", "early", "ahead")


@dataclass(frozen=True)
class Standing:
    """One line of the leaderboard.

    Attributes:
        forecaster: name of a forecaster or yardstick.
        precision, newcomers, spearman, ndcg: see `questions.judge`, with intervals.
        gain: precision minus persistence's on the same questions; the leaderboard is ordered by it.
        skill: 1 - mean error / mean error of persistence, by task; None if no scores are predicted.
        abstained: share of the questions on which it says that it fell back to persistence.
        seconds: mean of fit and prediction per question; None for a yardstick.
    """

    forecaster: str
    precision: Interval
    newcomers: Interval
    spearman: Interval
    ndcg: Interval
    gain: Interval
    skill: Interval | None
    abstained: float
    seconds: float | None


@dataclass(frozen=True)
class Choice:
    """How good the choice by this benchmark is on tasks that had no part in it.

    Attributes:
        chosen: the forecaster with the largest gain over all tasks, the choice for a new one.
        by_task: task -> the forecaster with the largest gain on all *other* tasks.
        gain: precision of that forecaster minus persistence's, on the task itself, over tasks.
        beats: whether the interval of `gain` is above zero; if not, persistence is the choice.
    """

    chosen: str
    by_task: dict[str, str]
    gain: Interval
    beats: bool


@dataclass(frozen=True)
class Leaderboard:
    """All standings of one kind of split.

    Attributes:
        split: what was left out, "task" or "model".
        standings: forecasters by gain, largest first; yardsticks: the prior and the ceiling.
        headroom: precision of a twin run minus persistence's: the gain of foreseeing all that runs of a task have in
            common. (What a run itself shows may give more, mostly over short horizons.)
        chance: precision of a random choice.
        details: gain of each forecaster by early x ahead, task, model and learning rate: rows of forecaster, by, at,
            mean, low, high, tasks; no interval within one task.
        counts: how many runs, tasks, models, questions there were.
    """

    split: str
    standings: list[Standing]
    yardsticks: list[Standing]
    headroom: Interval
    chance: float
    choice: Choice
    details: list[Row]
    counts: dict[str, int]

    @property
    def lines(self) -> list[Standing]:
        """The standings, then the yardsticks."""
        return [*self.standings, *self.yardsticks]

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "schema": SCHEMA}


def leaderboard(rows: Sequence[Row], split: str) -> Leaderboard:
    """The leaderboard of one kind of split, from the rows of `run_bench`; persistence must be among them."""
    rows = [row for row in rows if row["split"] == split]
    base = {_question(row): row for row in rows if row["forecaster"] == PERSISTENCE}
    groups = grouped((row["forecaster"], _compared(row, base[_question(row)])) for row in rows)
    lines = {name: _standing(name, group) for name, group in groups.items()}
    forecasters = [line for name, line in lines.items() if name not in YARDSTICKS]
    forecasters.sort(key=lambda line: (-(line.gain.mean or 0.0), line.forecaster != PERSISTENCE, line.forecaster))
    names = sorted((line.forecaster for line in forecasters), key=lambda name: name != PERSISTENCE)
    return Leaderboard(
        split=split,
        standings=forecasters,
        yardsticks=[lines[name] for name in YARDSTICKS if name in lines],
        headroom=lines[TWIN].gain if TWIN in lines else mean_interval({}),
        chance=CIRCUIT,
        choice=_choose({name: _by_task(groups[name], "gain") for name in names}),
        details=[row for name, group in groups.items() for row in _details(name, group)],
        counts={
            "questions": len(base),
            "runs": len({_question(row)[2:6] for row in base.values()}),
            **{f"{kind}s": len({row[kind] for row in base.values()}) for kind in ("task", "model")},
        },
    )


def _compared(row: Row, base: Row) -> Row:
    """A row beside that of persistence for the same question."""
    return {**row, "gain": row["precision"] - base["precision"], "base": base["error"]}


def _standing(name: str, rows: Sequence[Row]) -> Standing:
    timed = [row["seconds"] for row in rows if _finite(row["seconds"])]
    return Standing(
        name,
        **{measure: _over_tasks(rows, measure) for measure in MEASURES},
        skill=_skill(rows),
        abstained=float(np.mean([row["abstained"] for row in rows])),
        seconds=float(np.mean(timed)) if timed else None,
    )


def _over_tasks(rows: Sequence[Row], measure: str) -> Interval:
    return mean_interval({(task, 0): value for task, value in _by_task(rows, measure).items()})


def _by_task(rows: Sequence[Row], measure: str) -> dict[str, float]:
    """Task -> mean over its questions on which the measure is defined."""
    values = grouped((row["task"], row[measure]) for row in rows if _finite(row[measure]))
    return {task: float(np.mean(found)) for task, found in values.items()}


def _skill(rows: Sequence[Row]) -> Interval | None:
    errors = grouped((row["task"], (row["error"], row["base"])) for row in rows if _finite(row["error"]))
    means = {task: np.mean(found, 0) for task, found in errors.items()}
    skills = {(task, 0): float(1 - mine / its) for task, (mine, its) in means.items() if its > 0}
    return mean_interval(skills) if skills else None


def _choose(gains: Mapping[str, Mapping[str, float]]) -> Choice:
    """Of equal gains the first is taken: persistence, which costs nothing."""
    if len(gains[PERSISTENCE]) < 2:
        return Choice(PERSISTENCE, {}, mean_interval({}), False)
    chosen, by_task = choose(gains)
    gain = mean_interval({(task, 0): gains[name][task] for task, name in by_task.items()})
    return Choice(chosen, by_task, gain, gain.decided > 0)


def _details(name: str, rows: Sequence[Row]) -> list[Row]:
    cuts = grouped((("question", f"{row['early']:g} + {row['ahead']:g}"), row) for row in rows)
    cuts |= grouped(((by, str(row[by])), row) for by in ("task", "model", "learning_rate") for row in rows)
    gains = [(by, at, _over_tasks(part, "gain")) for (by, at), part in sorted(cuts.items())]
    return [{"forecaster": name, "by": by, "at": at, "mean": gain.mean, "low": gain.low, "high": gain.high,
             "tasks": gain.units} for by, at, gain in gains]  # fmt: skip


def _question(row: Row) -> tuple:
    return tuple(row[key] for key in _QUESTION)


def _finite(value: float | None) -> bool:
    return value is not None and bool(np.isfinite(value))


def sentences(board: Leaderboard) -> list[str]:
    """What the leaderboard says, in words: headroom first, then how much of it was won."""
    names = {line.forecaster: line for line in board.lines}
    headroom, choice, counts = board.headroom, board.choice, board.counts
    said = [
        f"Left out in turn: every {board.split}. {counts['questions']} questions about {counts['runs']} runs of "
        f"{counts['tasks']} tasks. The circuit of the cutoff has {_percent(names[PERSISTENCE].precision.mean)} of the "
        f"future one (chance {_percent(board.chance)})."
    ]
    other = f"run that differs only in the order of its data is {_change(headroom)} from persistence"
    if headroom.mean is None:
        said.append("Headroom: unknown, because no two runs differ only in the order of their data.")
    elif headroom.decided > 0:
        gained = "That much could be gained by foreseeing what all runs of a task have in common."
        said.append(f"Headroom: a {other}. {gained}")
    else:
        why = "a run's own last circuit already says as much about its future as another whole run does."
        said.append(f"Headroom: none seen overall. A {other}: {why}")
    asked = [row for row in board.details if row["by"] == "question"]
    said += [_where(row, asked) for row in asked if row["forecaster"] == TWIN and (row["low"] or 0) > 0]
    if PRIOR in names:
        said.append(f"Layer and kind alone, learned from the same runs: {_change(names[PRIOR].gain)} from persistence.")
    gain, first = _change(choice.gain), board.standings[0]
    if choice.beats:
        best = "Chosen without the task that it is judged on, the best forecaster"
        said.append(f"{choice.chosen} is the choice. {best} gains {gain} over persistence.")
    else:
        hindsight = f" In hindsight, {first.forecaster} would have gained {_change(first.gain)}."
        best = "the best, chosen without the task that it is judged on"
        said.append(
            f"Nothing beats persistence: {best}, gains {gain}.{'' if first.forecaster == PERSISTENCE else hindsight}"
        )
    return said


def _where(row: Row, asked: Sequence[Row]) -> str:
    """One question on which another run knows more than persistence, and how well forecasters did on it."""
    rivals = [r for r in asked if r["at"] == row["at"] and r["forecaster"] not in (PERSISTENCE, *YARDSTICKS)]
    early, ahead = (float(share) for share in row["at"].split(" + "))
    to = "to its end" if ahead == 1 else f"{ahead:.0%} of it ahead"
    said = f"With {early:.0%} of the run seen, {to}, there is headroom: {_points(row)}."
    if rivals:
        best = max(rivals, key=lambda r: r["mean"])
        said += f" The forecaster that did best there, in hindsight, is {best['forecaster']}: {_points(best)}."
    return said


def _percent(share: float | None) -> str:
    return "unknown" if share is None else f"{100 * share:.1f} %"


def _change(interval: Interval) -> str:
    return _points(vars(interval))


def _points(ends: Row) -> str:
    """For example ``+1.2 points [-0.4, +2.8]``."""
    if ends["mean"] is None:
        return "an unknown number of points"
    return bracketed(ends["mean"], ends["low"], ends["high"], "+.1f", scale=100, unit=" points")
