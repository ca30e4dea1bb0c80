"""What the numbers show, in words: headroom first, then the primary contrast.

The primary contrast is declared before anything runs: one arm against the best of several, by one measure. Headroom is
what hindsight wins over the same baselines; without it, no forecast could have won anything. Of several kinds of
hindsight the best is picked afterwards, so their intervals are at Bonferroni's level.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from ...common.intervals import LEVEL, Interval, Unit, detectable
from .baseline import AgainstBest, against_best, gains
from .measures import Measure

Outcome = Literal["win", "loss", "level", "undecidable", "incomplete", "broken"]
Headroom = Literal["some", "none", "unclear", "unknown"]

ArmValues = Mapping[str, Mapping[Unit, float]]
"""Arm -> unit -> value, averaged over draws, without broken runs."""


@dataclass(frozen=True)
class Question:
    """The primary contrast as declared: is `arm` better than the best of `against`, by `measure`?

    Attributes:
        oracles: arms that choose with hindsight.
        labels: what a reader sees of each arm.
    """

    arm: str
    against: tuple[str, ...]
    oracles: tuple[str, ...]
    measure: Measure
    labels: Mapping[str, str]

    def label(self, name: str) -> str:
        return self.labels.get(name, name)


@dataclass(frozen=True)
class Verdict:
    """The answer to a `Question`; in all differences a gain is positive.

    Attributes:
        gain: of the arm over the best baseline; None if there is nothing to compare.
        to_win: the same for each arm with hindsight.
        detectable: the smallest true gain that this design finds with at least 80 % power; None if unknown.
        sentence: headroom and outcome. power: what could have been seen. caveats: what else to know.
    """

    outcome: Outcome
    headroom: Headroom
    gain: AgainstBest | None
    to_win: dict[str, AgainstBest]
    detectable: float | None
    sentence: str
    power: str
    caveats: tuple[str, ...]

    def __str__(self) -> str:
        return self.sentence


def judge(values: ArmValues, question: Question, broken: Collection[str] = ()) -> Verdict:
    """Answer a question from the values of its measure.

    Args:
        broken: arms with a broken run (see `broken`). If the arm or a baseline is among them, the outcome is "broken",
            whatever the other runs say.
    """
    sign = 1 if question.measure.higher_is_better else -1
    worth = {name: {unit: sign * value for unit, value in found.items()} for name, found in values.items() if found}
    baselines = {name: worth[name] for name in question.against if name in worth}
    oracles = [name for name in question.oracles if name in worth]
    gain = against_best(worth.get(question.arm, {}), baselines)
    level = 1 - (1 - LEVEL) / max(1, len(oracles))
    to_win = {name: found for name in oracles if (found := against_best(worth[name], baselines, level))}
    damaged = [name for name in (question.arm, *question.against) if name in broken]
    if gain is None:
        return _without(question, worth, damaged)
    means = {name: sign * sum(found.values()) / len(found) for name, found in worth.items()}
    shown = {name: question.measure.value(value) for name, value in means.items()}
    headroom, opening = _headroom(to_win, gain.best, shown, question)
    outcome, closing = _outcome(gain, shown, question)
    if damaged:
        outcome = "broken"
        closing += f", but that decides nothing, because {_listed(damaged, question)} {_have(damaged)} broken runs"
    sentence = f"{opening}; {closing}."
    caveats = tuple(_caveats(gain, worth, question, broken))
    least = detectable(list(gains(worth[question.arm], baselines).values()))
    return Verdict(outcome, headroom, gain, to_win, least, sentence, _power(gain, least, question), caveats)


def _without(question: Question, worth: ArmValues, damaged: Sequence[str]) -> Verdict:
    if damaged:
        reason = f"{_listed(damaged, question)} {_have(damaged)} broken runs, and too few whole ones are left"
        return Verdict("broken", "unknown", None, {}, None, f"The comparison is broken: {reason}.", "", ())
    if question.arm not in worth:
        reason = f"{question.label(question.arm)} has no run"
    elif not any(name in worth for name in question.against):
        reason = "no baseline has a run"
    else:
        reason = "the arms have no task and seed in common"
    return Verdict("incomplete", "unknown", None, {}, None, f"The comparison is incomplete: {reason}.", "", ())


def _headroom(
    to_win: Mapping[str, AgainstBest], best: str, shown: Mapping[str, str], question: Question
) -> tuple[Headroom, str]:
    measure = question.measure
    baseline = f"the best baseline ({question.label(best)}, {shown[best]})"
    if not to_win:
        return "unknown", f"How much there was to win over {baseline} is unknown, as no arm with hindsight has a run"
    name = max(to_win, key=lambda name: to_win[name].nested.mean or 0.0)
    found = to_win[name].nested
    hindsight = f"hindsight ({question.label(name)}, {shown[name]} {measure.label})"
    difference = measure.difference(found)
    lows = [other.nested.low for other in to_win.values()]
    highs = [other.nested.high for other in to_win.values()]
    if found.low is None:
        return "unclear", f"One run of each arm shows no certainty: {hindsight} against {baseline}, {difference}"
    decided = [other for other in to_win if to_win[other].nested.decided > 0]
    if decided:
        name = max(decided, key=lambda name: to_win[name].nested.mean or 0.0)
        hindsight = f"hindsight ({question.label(name)}, {shown[name]} {measure.label})"
        difference = measure.difference(to_win[name].nested)
        return "some", f"There was something to win: {hindsight} beat {baseline}, gain {difference}"
    if all(high is not None and high < measure.margin for high in highs) and None not in lows:
        return "none", f"There was nothing to win: even {hindsight} did no better than {baseline}, gain {difference}"
    if (found.mean or 0.0) <= 0:
        return "unclear", f"No headroom was seen: even {hindsight} did no better than {baseline}, gain {difference}"
    return "unclear", f"Whether there was anything to win is open: {hindsight} against {baseline}, gain {difference}"


def _outcome(gain: AgainstBest, shown: Mapping[str, str], question: Question) -> tuple[Outcome, str]:
    name, found = question.label(question.arm), gain.nested
    numbers = f"{shown[question.arm]}, gain {question.measure.difference(found)}"
    if found.low is None:
        return "undecidable", f"{name} ended at {numbers} against the baseline"
    if found.decided > 0:
        return "win", f"{name} beat the best baseline ({numbers})"
    if found.decided < 0:
        return "loss", f"{name} lost to the best baseline ({numbers})"
    return "level", f"{name} could not be told from the best baseline ({numbers})"


def _power(gain: AgainstBest, smallest: float | None, question: Question) -> str:
    if smallest is None:
        return "How small an effect this design could have seen is unknown: nothing was repeated."
    measure = question.measure
    units = f"{gain.nested.units} {'tasks' if len(gain.by_task) > 1 else 'repetitions'}"
    least = Interval(smallest, None, None, 0, 0, "none")
    words = f"With {units} and the spread between them, this design finds a true gain of {measure.difference(least)} "
    words += "or more in at least 80 % of cases (5 %, two-sided); a smaller one it will mostly miss."
    if smallest > measure.most:
        words += " No gain can be as large as that: nothing could have been found."
    return words


def _caveats(gain: AgainstBest, worth: ArmValues, question: Question, broken: Collection[str]) -> list[str]:
    found = []
    if lost := [name for name in question.oracles if name in broken]:
        found.append(f"{_listed(lost, question)} {_have(lost)} broken runs; what there was to win rests on the others.")
    compared = [name for name in (question.arm, *question.against) if name in worth]
    most = len({unit for name in compared for unit in worth[name]})
    if gain.nested.n < most:
        found.append(f"Only {gain.nested.n} of {most} tasks and seeds have all arms; the comparison rests on those.")
    missing = [name for name in question.against if name not in worth]
    if missing:
        found.append(f"Without {_listed(missing, question)}: no usable run.")
    tasks = len(gain.by_task)
    if tasks == 1:
        found.append(
            "One task: nothing here says anything about others, and the best baseline was picked on the same runs."
        )
    elif tasks < 10:
        found.append(
            f"{tasks} tasks: an interval says how much other tasks might differ, and from so few it is wide. "
            "Only large effects could have been seen."
        )
    return found


def _listed(names: Sequence[str], question: Question) -> str:
    labels = [question.label(name) for name in names]
    return " and ".join([", ".join(labels[:-1]), labels[-1]]) if len(labels) > 1 else labels[0]


def _have(names: Sequence[str]) -> str:
    return "have" if len(names) > 1 else "has"
