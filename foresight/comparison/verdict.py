"""What the numbers show, in words: headroom first, then the forecast, whatever they say.

Headroom is the oracle (the mask chosen with hindsight) minus the best simple mask. Where there is none, no forecast of
that circuit could have won anything. The best simple mask is picked by the same runs that it is compared on, which
flatters it; so the two differences have intervals at Bonferroni's level over the simple masks, wide enough to hold for
whichever of them came out best.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from .arms import ARMS, SIMPLE
from .statistics import LEVEL, Interval, Unit, mean_interval, paired_difference

Outcome = Literal["win", "loss", "level", "undecidable", "incomplete"]
Headroom = Literal["some", "none", "unclear", "unknown"]


@dataclass(frozen=True)
class Measure:
    """A measure that arms are compared by.

    Attributes:
        scale, unit, digits: how a value is shown: multiplied by `scale`, rounded, a difference followed by `unit`.
        margin: the smallest difference worth having, in the measure's own unit.
        most: the largest difference that is possible; the shown interval of a difference ends there.
    """

    key: str
    label: str
    margin: float
    higher_is_better: bool = True
    scale: float = 1.0
    unit: str = ""
    digits: int = 2
    most: float = math.inf

    def value(self, value: float) -> str:
        """For example ``81.2 %``."""
        return _minus(f"{value * self.scale:.{self.digits}f}") + (" %" if self.scale == 100 else "")

    def difference(self, interval: Interval) -> str:
        """For example ``+1.2 points [-0.4, +2.8]``."""
        if interval.mean is None:
            return "unknown"
        signed = lambda x: _minus(f"{x * self.scale:+.{self.digits}f}")  # noqa: E731
        text = signed(interval.mean) + self.unit
        if interval.low is None or interval.high is None:
            return text
        interval = interval.within(-self.most, self.most)
        return f"{text} [{signed(interval.low)}, {signed(interval.high)}]"


TARGET_ACCURACY = Measure(
    "target_accuracy", "target accuracy", margin=0.02, scale=100, unit=" points", digits=1, most=1
)
LOG_LOSS_AREA = Measure("log_loss_area", "mean log loss over the run", margin=0.05, higher_is_better=False)

ArmValues = Mapping[str, Mapping[Unit, float]]
"""Arm name -> (task, seed) -> value; repeated draws already averaged, failed runs left out."""


@dataclass(frozen=True)
class Verdict:
    """`outcome` of foresight against `baseline`, the best simple mask; both differences count a gain as positive."""

    outcome: Outcome
    headroom: Headroom
    baseline: str | None
    gain: Interval
    to_win: Interval
    sentence: str
    caveats: tuple[str, ...]

    def __str__(self) -> str:
        return self.sentence


def judge(values: ArmValues, failed: Mapping[str, int], measure: Measure = TARGET_ACCURACY) -> Verdict:
    """Compare foresight with the best simple mask, and the oracle with it.

    Args:
        values: see `ArmValues`; only units that every compared arm has are used.
        failed: runs that ended in an error, by arm; arms without a usable run at all belong here too.
        measure: what `values` are.
    """
    simple = [name for name in SIMPLE if values.get(name)]
    compared = [name for name in (*simple, "foresight", "oracle") if values.get(name)]
    shared = set.intersection(*(set(values[name]) for name in compared)) if compared else set()
    caveats = _caveats(values, failed, shared)
    nothing = Interval(None, None, None, 0, 0, "none")
    if not shared or not simple or not values.get("foresight"):
        missing = "foresight" if simple else "every simple mask"
        if values.get("foresight") and simple:
            sentence = "The comparison is incomplete: the arms have no task and seed in common."
        else:
            sentence = f"The comparison is incomplete: {missing} has no usable run, so nothing can be said about it."
        return Verdict("incomplete", "unknown", None, nothing, nothing, sentence, caveats)

    sign = 1 if measure.higher_is_better else -1
    worth = {name: {unit: sign * values[name][unit] for unit in shared} for name in compared}
    means = {name: mean_interval(worth[name]).mean or 0.0 for name in compared}
    best = max(simple, key=lambda name: means[name])
    level = 1 - (1 - LEVEL) / len(simple)
    gain = paired_difference(worth["foresight"], worth[best], level)
    to_win = paired_difference(worth["oracle"], worth[best], level) if "oracle" in compared else nothing
    shown = {name: measure.value(sign * mean) for name, mean in means.items()}
    headroom, opening = _headroom(to_win, best, shown, measure)
    outcome, closing = _outcome(gain, shown, measure)
    return Verdict(outcome, headroom, best, gain, to_win, f"{opening}; {closing}.", caveats)


def _headroom(to_win: Interval, best: str, shown: Mapping[str, str], measure: Measure) -> tuple[Headroom, str]:
    simple = f"the best simple mask ({ARMS[best].label.lower()}, {shown[best]})"
    if to_win.mean is None:
        return "unknown", f"How much there was to win over {simple} is unknown, as the oracle has no usable run"
    hindsight = f"the mask chosen with hindsight ({shown['oracle']} {measure.label})"
    difference = measure.difference(to_win)
    if to_win.low is None or to_win.high is None:
        return "unclear", f"One run of each arm shows no certainty: {hindsight} against {simple}, {difference}"
    if to_win.decided > 0:
        return "some", f"There was something to win: {hindsight} beat {simple}, {difference}"
    if to_win.high < measure.margin:
        return "none", f"There was nothing to win: even {hindsight} did no better than {simple}, {difference}"
    if to_win.mean <= 0:
        return "unclear", f"No headroom was seen: even {hindsight} did no better than {simple}, {difference}"
    return "unclear", f"Whether there was anything to win is open: {hindsight} against {simple}, {difference}"


def _outcome(gain: Interval, shown: Mapping[str, str], measure: Measure) -> tuple[Outcome, str]:
    numbers = f"{shown['foresight']}, {measure.difference(gain)}"
    if gain.low is None or gain.high is None:
        return "undecidable", f"foresight ended at {numbers} against that mask"
    if gain.decided > 0:
        return "win", f"foresight beat that mask ({numbers})"
    if gain.decided < 0:
        return "loss", f"foresight lost to that mask ({numbers})"
    return "level", f"foresight could not be told from that mask ({numbers})"


def _minus(text: str) -> str:
    return text.replace("-", "\N{MINUS SIGN}")


def _caveats(values: ArmValues, failed: Mapping[str, int], shared: set[Unit]) -> tuple[str, ...]:
    found = []
    for name, count in failed.items():
        if count:
            label = ARMS[name].label if name in ARMS else name
            found.append(f"{label}: {count} {'run' if count == 1 else 'runs'} failed and are not in any average.")
    tasks = len({task for task, _ in shared})
    most = len({unit for runs in values.values() for unit in runs})
    if shared and len(shared) < most:
        found.append(f"Only {len(shared)} of {most} tasks and seeds have all arms; the comparison rests on those.")
    if 1 < tasks < 10:
        found.append(
            f"{tasks} tasks: an interval says how much other tasks might differ, and from so few it is wide. "
            "Only large effects could have been seen."
        )
    elif tasks == 1:
        found.append("One task: nothing here says anything about others.")
    return tuple(found)
