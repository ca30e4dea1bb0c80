"""From answers to a leaderboard: which forecaster sees more of the future circuit than persistence, and by how much.

Every number is a mean over tasks (of the mean over a task's runs and questions), and intervals are over tasks, see
`foresight.common.intervals`: runs of one task share its circuit and are no independent evidence.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ...common.files import json_rows
from ...common.intervals import Interval, mean_interval
from .bench import PRIOR, TWIN, YARDSTICKS, Row

SCHEMA = 1
PERSISTENCE = "persistence"
MEASURES = ("precision", "newcomers", "spearman", "ndcg")
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
        choice: see `Choice`.
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

    def to_json(self) -> dict[str, Any]:
        """Undefined numbers become null."""
        data = asdict(self)
        return {**data, "schema": SCHEMA, "details": json_rows(self.details)}


def leaderboard(rows: Sequence[Row], split: str, chance: float) -> Leaderboard:
    """The leaderboard of one kind of split, from the rows of `run_bench`; persistence must be among them.

    Args:
        chance: share of the components that a circuit has.
    """
    rows = [row for row in rows if row["split"] == split]
    base = {_question(row): row for row in rows if row["forecaster"] == PERSISTENCE}
    groups: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        groups[row["forecaster"]].append(row)
    gains = {name: _gains(group, base) for name, group in groups.items()}
    lines = {name: _standing(name, group, base) for name, group in groups.items()}
    forecasters = [line for name, line in lines.items() if name not in YARDSTICKS]
    forecasters.sort(key=lambda line: (-(line.gain.mean or 0.0), line.forecaster != PERSISTENCE, line.forecaster))
    nobody = Interval(None, None, None, 0, 0, "none")
    return Leaderboard(
        split=split,
        standings=forecasters,
        yardsticks=[lines[name] for name in YARDSTICKS if name in lines],
        headroom=lines[TWIN].gain if TWIN in lines else nobody,
        chance=chance,
        choice=_choose({line.forecaster: gains[line.forecaster] for line in forecasters}),
        details=_details(groups, base),
        counts={
            "questions": len(base),
            "runs": len({_question(row)[2:6] for row in base.values()}),
            **{f"{kind}s": len({row[kind] for row in base.values()}) for kind in ("task", "model")},
        },
    )


def _standing(name: str, rows: Sequence[Row], base: Mapping[tuple, Row]) -> Standing:
    timed = [row["seconds"] for row in rows if _finite(row["seconds"])]
    return Standing(
        name,
        **{measure: _over_tasks(rows, measure) for measure in MEASURES},
        gain=mean_interval({(task, 0): gain for task, gain in _gains(rows, base).items()}),
        skill=_skill(rows, base),
        abstained=float(np.mean([row["abstained"] for row in rows])),
        seconds=float(np.mean(timed)) if timed else None,
    )


def _over_tasks(rows: Iterable[Row], measure: str) -> Interval:
    """Mean over tasks of the mean over a task's questions on which the measure is defined."""
    values: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        if _finite(row[measure]):
            values[row["task"]].append(row[measure])
    return mean_interval({(task, 0): float(np.mean(found)) for task, found in values.items()})


def _gains(rows: Iterable[Row], base: Mapping[tuple, Row]) -> dict[str, float]:
    """Task -> mean precision minus persistence's on the same questions."""
    values: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        values[row["task"]].append(row["precision"] - base[_question(row)]["precision"])
    return {task: float(np.mean(found)) for task, found in values.items()}


def _skill(rows: Iterable[Row], base: Mapping[tuple, Row]) -> Interval | None:
    errors: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for row in rows:
        if _finite(row["error"]):
            errors[row["task"]].append((row["error"], base[_question(row)]["error"]))
    means = {task: np.mean(found, 0) for task, found in errors.items()}
    skills = {(task, 0): float(1 - mine / its) for task, (mine, its) in means.items() if its > 0}
    return mean_interval(skills) if skills else None


def _choose(gains: Mapping[str, Mapping[str, float]]) -> Choice:
    tasks = sorted(next(iter(gains.values())))

    def best(known: Sequence[str]) -> str:
        # Of equals, persistence: it costs nothing.
        means = {name: np.mean([by_task[task] for task in known]) for name, by_task in gains.items()}
        return max(means, key=lambda name: (round(means[name], 12), name == PERSISTENCE))

    if len(tasks) < 2:
        return Choice(PERSISTENCE, {}, Interval(None, None, None, 0, 0, "none"), False)
    by_task = {task: best([other for other in tasks if other != task]) for task in tasks}
    gain = mean_interval({(task, 0): gains[name][task] for task, name in by_task.items()})
    return Choice(best(tasks), by_task, gain, gain.decided > 0)


def _details(groups: Mapping[str, Sequence[Row]], base: Mapping[tuple, Row]) -> list[Row]:
    found = []
    for name, rows in groups.items():
        cuts: dict[tuple[str, str], list[Row]] = defaultdict(list)
        for row in rows:
            cuts["question", f"{row['early']:g} + {row['ahead']:g}"].append(row)
            for by in ("task", "model", "learning_rate"):
                cuts[by, str(row[by])].append(row)
        for (by, at), part in sorted(cuts.items()):
            gain = mean_interval({(task, 0): value for task, value in _gains(part, base).items()})
            found.append({"forecaster": name, "by": by, "at": at, "mean": gain.mean, "low": gain.low,
                          "high": gain.high, "tasks": gain.units})  # fmt: skip
    return found


def _question(row: Row) -> tuple:
    return tuple(row[key] for key in _QUESTION)


def _finite(value: float | None) -> bool:
    return value is not None and bool(np.isfinite(value))


def sentences(board: Leaderboard) -> list[str]:
    """What the leaderboard says, in words: headroom first, then how much of it was won."""
    names = {line.forecaster: line for line in (*board.standings, *board.yardsticks)}
    own, choice, left = names[PERSISTENCE], board.choice, board.split
    said = [
        f"Left out in turn: every {left}. {board.counts['questions']} questions about {board.counts['runs']} runs of "
        f"{board.counts['tasks']} tasks. The circuit of the cutoff has {_points(own.precision.mean)} of the future "
        f"one (chance {_points(board.chance)})."
    ]
    if board.headroom.mean is None:
        said.append("Headroom: unknown, because no two runs differ only in the order of their data.")
    elif board.headroom.decided > 0:
        said.append(
            "Headroom: a run that differs only in the order of its data is "
            f"{_change(board.headroom)} from persistence. "
            "That much could be gained by foreseeing what all runs of a task have in common."
        )
    else:
        said.append(
            "Headroom: none seen overall. A run that differs only in the order of its data is "
            f"{_change(board.headroom)} from persistence: "
            "a run's own last circuit already says as much about its future as another whole run does."
        )
    said += [_where(row, board) for row in board.details if row["forecaster"] == TWIN and _foreseeable(row)]
    if PRIOR in names:
        said.append(f"Layer and kind alone, learned from the same runs: {_change(names[PRIOR].gain)} from persistence.")
    if choice.beats:
        said.append(
            f"{choice.chosen} is the choice. Chosen without the task that it is judged on, the best forecaster gains "
            f"{_change(choice.gain)} over persistence."
        )
    else:
        first = board.standings[0]
        hindsight = f" In hindsight, {first.forecaster} would have gained {_change(first.gain)}."
        said.append(
            f"Nothing beats persistence: the best, chosen without the task that it is judged on, gains "
            f"{_change(choice.gain)}.{'' if first.forecaster == PERSISTENCE else hindsight}"
        )
    return said


def _foreseeable(row: Row) -> bool:
    return row["by"] == "question" and row["low"] is not None and row["low"] > 0


def _where(row: Row, board: Leaderboard) -> str:
    """One question on which another run knows more than persistence, and how well forecasters did on it."""
    mine = {line.forecaster for line in board.standings} - {PERSISTENCE}
    known = [r for r in board.details if (r["by"], r["at"]) == ("question", row["at"]) and r["forecaster"] in mine]
    early, ahead = (float(share) for share in row["at"].split(" + "))
    asked = f"With {early:.0%} of the run seen, {'to its end' if ahead == 1 else f'{ahead:.0%} of it ahead'}"
    if not known:
        return f"{asked}, there is headroom: {_change(_interval(row))}."
    best = max(known, key=lambda r: r["mean"])
    return (
        f"{asked}, there is headroom: {_change(_interval(row))}. The forecaster that did best there, in hindsight, is "
        f"{best['forecaster']}: {_change(_interval(best))}."
    )


def _interval(row: Row) -> Interval:
    return Interval(row["mean"], row["low"], row["high"], row["tasks"], row["tasks"], "bootstrap")


def _points(share: float | None) -> str:
    return "unknown" if share is None else f"{100 * share:.1f} %"


def _change(interval: Interval) -> str:
    if interval.mean is None:
        return "an unknown number of points"
    low, high = interval.low, interval.high
    spread = "" if low is None or high is None else f" [{100 * low:+.1f}, {100 * high:+.1f}]"
    return f"{100 * interval.mean:+.1f} points{spread}"
