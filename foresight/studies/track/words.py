"""What a study of circuits found, question by question: each verdict with the numbers that it rests on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite

from ...common.numbers import MINUS, bracketed, number
from .tables import Row, Tables, values, where

MOST_STEPS = 6
"""Steps that a sentence lists at most; tables and figures have all of them."""


@dataclass(frozen=True)
class Line:
    """The strategy that a line is about (or ""), the verdict in a few words, and a sentence with its numbers."""

    who: str
    verdict: str
    numbers: str


@dataclass(frozen=True)
class Question:
    title: str
    lines: list[Line]


def questions(answers: Tables) -> list[Question]:
    """Answer the questions that a reader would ask first, by the first scorer and the Jaccard distance."""
    unknown = Line("", "Not known", "No run has two snapshots, so nothing can be said about movement.")
    strategies = values(answers["moves"], "strategy")
    of_strategy = {
        "Do circuits move beyond noise?": _moved,
        "Do heads move more than MLP blocks?": _kinds,
        "How stale is the map of step 0?": _stale,
        "Does the circuit of step 0 still explain the model?": _explains,
    }
    found = [Question(title, [say(answers, s) for s in strategies] or [unknown]) for title, say in of_strategy.items()]
    of_all = {"Which strategy learned best?": _best, "Do the tasks conflict?": _conflict}
    return found + [Question(title, say(answers)) for title, say in of_all.items()]


def sentences(answers: Tables) -> list[str]:
    """The answers to `questions` as plain sentences, then what tracking cost and which runs failed."""
    found = [
        f"{question.title} {line.who + ': ' if line.who else ''}{line.verdict}. {line.numbers}"
        for question in questions(answers)
        for line in question.lines
    ]
    found += [f"{row['strategy']}: tracking took {row['tracking_share']:.0%} of the time." for row in answers["cost"]]
    return found + [f"{row['task']}, {row['strategy']}, seed {row['seed']} failed: {row['error']}"
                    for row in answers["failures"]]  # fmt: skip


def _of(rows: Sequence[Row], answers: Tables, strategy: str, **wanted: str) -> list[Row]:
    """Select the rows of a strategy and the first scorer, ordered by step."""
    found = where(rows, strategy=strategy, scorer=answers["moves"][0]["scorer"], **wanted)
    return sorted(found, key=lambda row: row["step"])


def _moved(answers: Tables, strategy: str) -> Line:
    row = _of(answers["moves"], answers, strategy, kind="all", measure="jaccard")[-1]
    floors = f"two halves of the probe at one step differ by {number(row['floor'])}"
    if isfinite(row["between_runs"]):
        floors += f", and runs that differ only in their seed by {number(row['between_runs'])}"
    alone = "within the noise of the probe, as far as one unit can tell"
    if row["beyond_floor"]:
        alone = "beyond the noise of the probe, but one unit cannot establish it"
    verdict = decided(row, "moved beyond noise", "within the noise", "within the noise", alone)
    return Line(strategy, verdict,
        f"At step {row['step']} the Jaccard distance of circuits from step 0 is {number(row['distance'])}; {floors}. "
        f"Movement alone, with the noise subtracted: {spread(row)}. In {row['beyond_floor']} of {row['n']} runs the "
        "distance exceeds that of 95 % of halves.")  # fmt: skip


def _kinds(answers: Tables, strategy: str) -> Line:
    row = _of(answers["heads_over_mlps"], answers, strategy, measure="jaccard")[-1]
    if not row["n"]:
        return Line(strategy, "Not known", "No run has both heads and MLP blocks.")
    verdict = decided(row, "heads moved more", "MLP blocks moved more", "the difference is within the noise")
    return Line(strategy, verdict,
        f"Movement alone (0 if only noise differs) at step {row['step']}: heads {number(row['heads'], '+.2f')}, MLP "
        f"blocks {number(row['mlps'], '+.2f')}; difference {spread(row)}.")  # fmt: skip


def _stale(answers: Tables, strategy: str) -> Line:
    rows = [row for row in _of(answers["staleness"], answers, strategy) if row["step"]]
    last = rows[-1]
    inside = "what was lost is within the noise"
    verdict, parts = decided(last, "stale beyond noise", inside, inside), []
    for row in _thinned(rows):
        held = f"{row['held']:.0%} still holds" if isfinite(row["held"]) else "share undefined"
        note = decided(row, "", ", within the noise", ", within the noise", "", "")
        parts.append(f"step {row['step']}: {held} (lost {spread(row)}{note})")
    return Line(strategy, verdict, f"Of the map of step 0, at {'; '.join(parts)}. At step {last['step']} its overlap "
        f"with the circuit is {number(last['across'])}; a fresh map reaches {number(last['ceiling'])}, chance "
        f"{number(last['chance'])}.")  # fmt: skip


def _explains(answers: Tables, strategy: str) -> Line:
    rows = _of(answers["stability"], answers, strategy)
    if not rows:
        return Line(strategy, "Not known", "Faithfulness was not measured.")
    row = rows[-1]
    old, new = number(row["of_start"]), number(row["of_own"])
    if not row["defined"]:
        return Line(strategy, "undefined",
            f"On the model of step {row['step']} the circuit of step 0 has a faithfulness of {old}, that step's own "
            f"{new}. In no run does the latter explain anything beyond noise: their ratio means nothing.")  # fmt: skip
    own = "the circuit of its own step"
    verdict = decided(row, f"better than {own}", f"worse than {own}", f"as good as {own}, within the noise")
    return Line(strategy, verdict,
        f"On the model of step {row['step']} the circuit of step 0 is {number(row['ratio'])} times as faithful as that "
        f"step's own ({old} against {new}). This ratio differs by {number(row['floor'])} between halves of the probe, "
        f"and by {number(row['between_runs'])} between runs that differ only in their seed. Ratio minus 1: "
        f"{spread(row)}; defined in {row['defined']} of {row['runs']} runs.")  # fmt: skip


def _best(answers: Tables) -> list[Line]:
    rows = [row for row in answers["outcome"] if row["metric"] == "accuracy" and row["n"]]
    alone = [row for row in rows if row["minus"] is None]
    if not alone:
        return [Line("", "Not known", "No run was evaluated on held-out examples.")]
    levels = "; ".join(f"{r['strategy']} {share(r)}" for r in alone)
    if len(alone) == 1:
        return [Line("", "One strategy, nothing to compare", f"Final accuracy: {levels}.")]
    pairs = [row for row in rows if row["minus"]]
    wins = Counter(r["strategy"] if r["decided"] > 0 else r["minus"] for r in pairs if r["decided"])
    best = [name for name, count in wins.items() if count == len(alone) - 1]
    verdict = f"{best[0]} learned best" if best else "None is shown to be the best"
    differences = "; ".join(
        f"{r['strategy']} {MINUS} {r['minus']} {points(r)}{decided(r, '', '', ', within the noise', '', '')}"
        for r in pairs
    )
    return [Line("", verdict, f"Final accuracy: {levels}. Paired differences in points: {differences}.")]


def _conflict(answers: Tables) -> list[Line]:
    rows = answers["conflict"]
    if not rows:
        return [Line("", "Not measured", "It takes two tasks with contrast pairs whose circuits share components.")]
    beyond, worst = [row for row in rows if row["beyond_floor"]], rows[0]
    if not beyond:
        none = f"None of {len(rows)} pairs of tasks conflicts more than 95 % of halves of one task's probe do."
        return [Line("", "within the noise", f"{none} The highest is {_pair(worst)}.")]
    return [Line("", f"{len(beyond)} of {len(rows)} pairs conflict beyond noise",
                 f"The strongest is {_pair(beyond[0])}.")]  # fmt: skip


def _pair(row: Row) -> str:
    found = bracketed(row["value"], row["low"], row["high"], ".2f")
    floors = f"{number(row['floor'])} (95 % below {number(row['floor_high'])})"
    return f"{row['task_a']} and {row['task_b']}: {found}, where halves of one task's probe have {floors}"


def decided(
    row: Row,
    above: str,
    below: str,
    noise: str,
    alone: str = "no verdict: one unit has no interval",
    equal: str = "no verdict: too few units to believe that they agree so exactly",
) -> str:
    """Choose what to say about a row of the answers: whether its interval is above zero, below, or contains zero.

    `alone` is the text for a single unit, `equal` that for a few units which agree exactly.
    """
    if row["interval_low"] is None:
        return alone
    if row["decided"]:
        return above if row["decided"] > 0 else below
    return equal if row["interval_low"] * row["interval_high"] > 0 else noise


def _thinned(rows: Sequence[Row]) -> list[Row]:
    every = -(-len(rows) // MOST_STEPS)
    return list(rows[::-1][::every])[::-1]


def spread(row: Row, form: str = "+.2f", scale: float = 1) -> str:
    """Format the mean of a row of the answers with its interval, or say that it has none."""
    return bracketed(row["mean"], row["interval_low"], row["interval_high"], form, " (one unit, no interval)", scale)


def points(row: Row) -> str:
    """Format a difference of accuracies in percentage points, with its interval."""
    return spread(row, "+.1f", 100)


def share(row: Row) -> str:
    """Format a mean share in percent, its interval clipped to possible shares."""
    ends = {k: None if row[k] is None else min(1.0, max(0.0, row[k])) for k in ("interval_low", "interval_high")}
    return spread({"mean": row["mean"]} | ends, ".1%")
