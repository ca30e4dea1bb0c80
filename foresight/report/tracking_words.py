"""What a study of circuits says, question by question, before any figure: each verdict with its interval and floor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite

from ..studies.track.answers import Answers
from ..studies.track.tables import Row

DASH = "\N{EN DASH}"
MINUS = "\N{MINUS SIGN}"
MOST_STEPS = 6
"""Steps that a sentence lists; tables and figures have all."""


@dataclass(frozen=True)
class Line:
    """`who` (a strategy, or empty), the verdict in a few words, and a sentence of the numbers that it rests on."""

    who: str
    verdict: str
    numbers: str


@dataclass(frozen=True)
class Question:
    title: str
    lines: list[Line]


def questions(answers: Answers) -> list[Question]:
    """The answers about the first scorer and the Jaccard distance, in the order in which one would ask."""
    unknown = [Line("", "Not known", "No run has two snapshots, so nothing can be said of movement.")]
    strategies = list(dict.fromkeys(row["strategy"] for row in answers.moves))
    asked = [
        Question("Do circuits move beyond noise?", _each(strategies, _moved, answers)),
        Question("Do heads move more than MLP blocks?", _each(strategies, _kinds, answers)),
        Question("How stale is the map of step 0?", _each(strategies, _stale, answers)),
        Question("Does the circuit of step 0 still explain the model?", _each(strategies, _explains, answers)),
    ]
    found = [Question(q.title, q.lines or unknown) for q in asked]
    return [*found, Question("Which strategy learned best?", _best(answers)),
            Question("Do the tasks conflict?", _conflict(answers))]  # fmt: skip


def _each(strategies, say, answers: Answers) -> list[Line]:
    return [line for strategy in strategies if (line := say(answers, strategy)) is not None]


def _of(rows: Sequence[Row], answers: Answers, strategy: str, **wanted: str) -> list[Row]:
    """Rows of a strategy and the first scorer, by step."""
    wanted |= {"strategy": strategy, "scorer": answers.moves[0]["scorer"]}
    return sorted((r for r in rows if all(r[k] == v for k, v in wanted.items())), key=lambda r: r["step"])


def _moved(answers: Answers, strategy: str) -> Line:
    row = _of(answers.moves, answers, strategy, kind="all", measure="jaccard")[-1]
    floors = f"two halves of the probe at one step lie {number(row['floor'])} apart"
    if isfinite(row["between_runs"]):
        floors += f", runs that differ in their seed alone {number(row['between_runs'])}"
    verdict = decided(row, "moved beyond noise", "within the noise", "within the noise")
    if row["interval_low"] is None:
        beyond = "beyond the noise of the probe in its one unit, which is no certainty"
        verdict = beyond if row["beyond_floor"] else "within the noise of the probe, as far as one unit can tell"
    return Line(strategy, verdict,
        f"At step {row['step']} circuits lie {number(row['distance'])} from step 0 (Jaccard distance), where {floors}. "
        f"Movement alone, with the noise taken off: {spread(row)}. {row['beyond_floor']} of {row['n']} runs lie above "
        "what 95 % of halves differ by.")  # fmt: skip


def _kinds(answers: Answers, strategy: str) -> Line:
    row = _of(answers.heads_over_mlps, answers, strategy, measure="jaccard")[-1]
    if not row["n"]:
        return Line(strategy, "Not known", "No run has both heads and MLP blocks.")
    verdict = decided(row, "heads moved more", "MLP blocks moved more", "the difference is within the noise")
    return Line(strategy, verdict,
        f"At step {row['step']} heads {number(row['heads'], '+.2f')}, MLP blocks {number(row['mlps'], '+.2f')} of "
        f"movement alone (0 where only noise differs); difference {spread(row)}.")  # fmt: skip


def _stale(answers: Answers, strategy: str) -> Line:
    rows = [row for row in _of(answers.staleness, answers, strategy) if row["step"]]
    last = rows[-1]
    inside = "what was lost is within the noise"
    verdict, parts = decided(last, "stale beyond noise", inside, inside), []
    for row in _thinned(rows):
        held = f"{row['held']:.0%} holds" if isfinite(row["held"]) else "share undefined"
        note = decided(row, "", ", within the noise", ", within the noise", "", "")
        parts.append(f"step {row['step']}: {held} (lost {spread(row)}{note})")
    return Line(strategy, verdict, f"Of the step-0 map, {'; '.join(parts)}. At step {last['step']} it overlaps "
        f"{number(last['across'])} with the circuit, a fresh map {number(last['ceiling'])}, chance "
        f"{number(last['chance'])}.")  # fmt: skip


def _explains(answers: Answers, strategy: str) -> Line:
    rows = _of(answers.stability, answers, strategy)
    if not rows or not rows[-1]["defined"]:
        return Line(strategy, "Not known", "Faithfulness was not measured, or is undefined in every run.")
    row = rows[-1]
    own = "the circuit of its own step"
    verdict = decided(row, f"better than {own}", f"worse than {own}", f"within the noise as good as {own}")
    return Line(strategy, verdict,
        f"On the model of step {row['step']} the step-0 circuit is {number(row['ratio'])} times as faithful (halves of "
        f"the probe put that {number(row['floor'])} apart, runs that differ in their seed alone "
        f"{number(row['between_runs'])}); minus 1: {spread(row)}; defined in {row['defined']} of {row['runs']} "
        "runs.")  # fmt: skip


def _best(answers: Answers) -> list[Line]:
    rows = [row for row in answers.outcome if row["metric"] == "accuracy" and row["n"]]
    alone = [row for row in rows if row["minus"] is None]
    if not alone:
        return [Line("", "Not known", "No run was evaluated on held-out examples.")]
    levels = "; ".join(f"{r['strategy']} {share(r)}" for r in alone)
    if len(alone) == 1:
        return [Line("", "One strategy, nothing to compare", f"Final accuracy {levels}.")]
    wins = {row["strategy"]: 0 for row in alone}
    for row in (pairs := [row for row in rows if row["minus"]]):
        if row["decided"]:
            wins[row["strategy"] if row["decided"] > 0 else row["minus"]] += 1
    best = [name for name, count in wins.items() if count == len(wins) - 1]
    verdict = f"{best[0]} learned best" if best else "None is shown to be best"
    notes = [decided(row, "", "", ", within the noise", "", "") for row in pairs]
    differences = "; ".join(
        f"{r['strategy']} {MINUS} {r['minus']} {points(r)}{note}" for r, note in zip(pairs, notes, strict=True)
    )
    return [Line("", verdict, f"Final accuracy {levels}. Paired differences, in points: {differences}.")]


def _conflict(answers: Answers) -> list[Line]:
    rows = answers.conflict
    if not rows:
        return [Line("", "Not measured", "It takes two tasks with contrast pairs whose circuits share something.")]
    beyond, worst = [row for row in rows if row["beyond_floor"]], rows[0]
    if not beyond:
        return [Line("", "within the noise", f"None of {len(rows)} pairs of tasks conflicts beyond what 95 % of halves "
            f"of one task's probe do; the highest is {_pair(worst)}.")]  # fmt: skip
    return [Line("", f"{len(beyond)} of {len(rows)} pairs conflict beyond noise",
                 f"Most of all {_pair(beyond[0])}.")]  # fmt: skip


def _pair(row: Row) -> str:
    interval = f"[{number(row['low'])}, {number(row['high'])}]"
    floors = f"{number(row['floor'])} (95 % below {number(row['floor_high'])})"
    pair = f"{row['task_a']} and {row['task_b']}"
    return f"{pair}, {number(row['value'])} {interval} where halves of one task's probe have {floors}"


def decided(
    row: Row,
    above: str,
    below: str,
    noise: str,
    alone: str = "one unit, no interval, no verdict",
    equal: str = "too few units to believe that they agree so exactly, no verdict",
) -> str:
    """What to say of a row of `Answers`: its interval lies above zero, below, or holds it; or there is no verdict."""
    if row["interval_low"] is None:
        return alone
    if row["decided"]:
        return above if row["decided"] > 0 else below
    return equal if row["interval_low"] * row["interval_high"] > 0 else noise


def _thinned(rows: Sequence[Row]) -> list[Row]:
    every = -(-len(rows) // MOST_STEPS)
    return list(rows[::-1][::every])[::-1]


def number(value: float | None, form: str = ".2f") -> str:
    """A number with a real minus sign, or a dash where it is undefined."""
    if value is None or not isfinite(value):
        return DASH
    digits = int(form.rstrip("f%").split(".")[1]) + (2 if form.endswith("%") else 0)
    return format(round(value, digits) + 0.0, form).replace("-", MINUS)  # adding zero takes the sign of -0.0


def spread(row: Row, form: str = "+.2f") -> str:
    """The mean of a row of `Answers` with its interval, or the words that there is none."""
    if row["mean"] is None:
        return DASH
    if row["interval_low"] is None:
        return f"{number(row['mean'], form)} (one unit, no interval)"
    return f"{number(row['mean'], form)} [{number(row['interval_low'], form)}, {number(row['interval_high'], form)}]"


def points(row: Row) -> str:
    """A difference of accuracies in percentage points, with its interval."""
    scaled = {k: None if row[k] is None else 100 * row[k] for k in ("mean", "interval_low", "interval_high")}
    return spread(scaled, "+.1f")


def share(row: Row) -> str:
    """A mean share in percent, its interval cut to what a share can be."""
    ends = {k: None if row[k] is None else min(1.0, max(0.0, row[k])) for k in ("interval_low", "interval_high")}
    return spread({"mean": row["mean"]} | ends, ".1%")
