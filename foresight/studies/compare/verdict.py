"""What the numbers show, in words: headroom first, then the primary contrast.

The primary contrast is declared before anything runs: one arm against the best of several, by one measure. Headroom is
what hindsight wins over the same baselines; without it, no forecast could have won anything. Of several kinds of
hindsight the best is picked afterwards, so their intervals are at Bonferroni's level.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from ...common.intervals import LEVEL, Interval, detectable
from .baseline import AgainstBest, ArmValues, against_best, gains
from .measures import Measure
from .settings import CompareConfig

Outcome = Literal["win", "loss", "level", "undecidable", "incomplete", "broken"]
Headroom = Literal["some", "none", "unclear", "unknown"]


@dataclass(frozen=True)
class Verdict:
    """Whether the primary arm is better than the best of the baselines; in all differences a gain is positive.

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


def judge(values: ArmValues, config: CompareConfig, broken: Collection[str] = ()) -> Verdict:
    """Answer the question of a comparison from the values of its primary measure, in runs that are not broken.

    Args:
        broken: arms with a broken run (see `broken`). If the arm or a baseline is among them, the outcome is "broken",
            whatever the other runs say.
    """
    measure, primary = config.measure, config.primary_arm
    worth = {name: {unit: measure.sign * x for unit, x in found.items()} for name, found in values.items() if found}
    baselines = {name: worth[name] for name in config.against if name in worth}
    oracles = [name for name, arm in config.chosen.items() if arm.hindsight and name in worth]
    gain = against_best(worth.get(primary, {}), baselines)
    level = 1 - (1 - LEVEL) / max(1, len(oracles))
    to_win = {name: found for name in oracles if (found := against_best(worth[name], baselines, level))}
    damaged = [name for name in (primary, *config.against) if name in broken]
    if gain is None:
        return _without(config, worth, damaged)
    means = {name: measure.sign * sum(found.values()) / len(found) for name, found in worth.items()}
    shown = {name: measure.value(value) for name, value in means.items()}
    headroom, opening = _headroom(to_win, gain.best, shown, config)
    outcome, closing = _outcome(gain.nested, shown[primary], config)
    if damaged:
        outcome, closing = "broken", f"{closing}, but that decides nothing, because {_damage(damaged, config)}"
    least = detectable(list(gains(worth[primary], baselines).values()))
    sentence, power = f"{opening}; {closing}.", _power(gain, least, measure)
    return Verdict(outcome, headroom, gain, to_win, least, sentence, power, _caveats(gain, worth, config, broken))


def _without(config: CompareConfig, worth: ArmValues, damaged: Sequence[str]) -> Verdict:
    outcome: Outcome = "broken" if damaged else "incomplete"
    if damaged:
        reason = f"{_damage(damaged, config)}, and too few whole ones are left"
    elif config.primary_arm not in worth:
        reason = f"{_listed([config.primary_arm], config)} has no run"
    elif not any(name in worth for name in config.against):
        reason = "no baseline has a run"
    else:
        reason = "the arms have no task and seed in common"
    return Verdict(outcome, "unknown", None, {}, None, f"The comparison is {outcome}: {reason}.", "", ())


def _headroom(
    to_win: Mapping[str, AgainstBest], best: str, shown: Mapping[str, str], config: CompareConfig
) -> tuple[Headroom, str]:
    measure, arms = config.measure, config.chosen
    baseline = f"the best baseline ({arms[best].label}, {shown[best]})"
    if not to_win:
        return "unknown", f"How much there was to win over {baseline} is unknown, as no arm with hindsight has a run"
    nested = {name: found.nested for name, found in to_win.items()}
    ranked = sorted(nested, key=lambda name: nested[name].mean or 0.0, reverse=True)
    name = ranked[0]
    if nested[name].low is not None:
        name = next((other for other in ranked if nested[other].decided > 0), name)
    found = nested[name]
    hindsight = f"hindsight ({arms[name].label}, {shown[name]} {measure.label})"
    difference = measure.difference(found)
    if found.low is None:
        return "unclear", f"One run of each arm shows no certainty: {hindsight} against {baseline}, {difference}"
    if found.decided > 0:
        return "some", f"There was something to win: {hindsight} beat {baseline}, gain {difference}"
    no_better = f"even {hindsight} did no better than {baseline}, gain {difference}"
    if all(other.high is not None and other.high < measure.margin for other in nested.values()):
        return "none", f"There was nothing to win: {no_better}"
    if (found.mean or 0.0) <= 0:
        return "unclear", f"No headroom was seen: {no_better}"
    return "unclear", f"Whether there was anything to win is open: {hindsight} against {baseline}, gain {difference}"


def _outcome(gain: Interval, shown: str, config: CompareConfig) -> tuple[Outcome, str]:
    name, numbers = config.chosen[config.primary_arm].label, f"{shown}, gain {config.measure.difference(gain)}"
    if gain.low is None:
        return "undecidable", f"{name} ended at {numbers} against the baseline"
    outcomes: dict[int, tuple[Outcome, str]]
    outcomes = {1: ("win", "beat"), -1: ("loss", "lost to"), 0: ("level", "could not be told from")}
    outcome, verb = outcomes[gain.decided]
    return outcome, f"{name} {verb} the best baseline ({numbers})"


def _power(gain: AgainstBest, smallest: float | None, measure: Measure) -> str:
    if smallest is None:
        return "How small an effect this design could have seen is unknown: nothing was repeated."
    units = f"{gain.nested.units} {'tasks' if len(gain.by_task) > 1 else 'repetitions'}"
    least = Interval(smallest, None, None, 0, 0, "none")
    words = f"With {units} and the spread between them, this design finds a true gain of {measure.difference(least)} "
    words += "or more in at least 80 % of cases (5 %, two-sided); a smaller one it will mostly miss."
    if smallest > measure.most:
        words += " No gain can be as large as that: nothing could have been found."
    return words


def _caveats(gain: AgainstBest, worth: ArmValues, config: CompareConfig, broken: Collection[str]) -> tuple[str, ...]:
    found = []
    if lost := [name for name, arm in config.chosen.items() if arm.hindsight and name in broken]:
        found.append(f"{_damage(lost, config)}; what there was to win rests on the others.")
    compared = [name for name in (config.primary_arm, *config.against) if name in worth]
    most = len({unit for name in compared for unit in worth[name]})
    if gain.nested.n < most:
        found.append(f"Only {gain.nested.n} of {most} tasks and seeds have all arms; the comparison rests on those.")
    if missing := [name for name in config.against if name not in worth]:
        found.append(f"Without {_listed(missing, config)}: no usable run.")
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
    return tuple(found)


def _damage(names: Sequence[str], config: CompareConfig) -> str:
    return f"{_listed(names, config)} {'have' if len(names) > 1 else 'has'} broken runs"


def _listed(names: Sequence[str], config: CompareConfig) -> str:
    *others, last = (config.chosen[name].label for name in names)
    return f"{', '.join(others)} and {last}" if others else last
