"""What arms are compared by: how each measure is read off a run, and how it is shown."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .results import Record

if TYPE_CHECKING:  # settings of a comparison are checked without scipy
    from ...common.intervals import Interval, Unit

Read = Callable[[Record], float | None]


@dataclass(frozen=True)
class Measure:
    """A measure that arms are compared by.

    Attributes:
        read: its value for a scored run that did not fail; None where the run has none.
        margin: the smallest difference worth having, in the measure's own unit.
        scale, unit, digits: how a value is shown: multiplied by `scale`, rounded, a difference followed by `unit`.
        most: the largest difference that is possible; the shown interval of a difference ends there.
    """

    key: str
    label: str
    read: Read
    margin: float = 0.0
    higher_is_better: bool = True
    scale: float = 1.0
    unit: str = ""
    digits: int = 2
    most: float = math.inf

    def value(self, value: float) -> str:
        """For example ``81.2 %``."""
        return minus(f"{value * self.scale:z.{self.digits}f}") + (" %" if self.scale == 100 else "")

    def difference(self, interval: Interval) -> str:
        """For example ``+1.2 points [-0.4, +2.8]``."""
        if interval.mean is None:
            return "unknown"
        signed = lambda x: minus(f"{x * self.scale:+z.{self.digits}f}")  # noqa: E731
        text = signed(interval.mean) + self.unit
        if interval.low is None or interval.high is None:
            return text
        interval = interval.within(-self.most, self.most)
        return f"{text} [{signed(interval.low)}, {signed(interval.high)}]"


def _last(key: str) -> Read:
    def read(record: Record) -> float | None:
        return getattr(record.measures.curve[-1], key) if record.measures and record.measures.curve else None

    return read


def _own(key: str) -> Read:
    def read(record: Record) -> float | None:
        return getattr(record.measures, key) if record.measures else None

    return read


def _share(key: str, label: str, read: Read, margin: float = 0.02) -> Measure:
    return Measure(key, label, read, margin, scale=100, unit=" points", digits=1, most=1)


MEASURES = {
    measure.key: measure
    for measure in (
        Measure("log_loss_area", "mean log loss over the run", _own("log_loss_area"), 0.05, False),
        _share("target_accuracy", "target accuracy", _last("accuracy")),
        Measure("target_loss", "target loss", _last("loss"), 0.02, False, unit=" nats", digits=3),
        _share("retained_accuracy", "retained accuracy", _last("retained_accuracy")),
        Measure("retained_loss", "retained loss", _last("retained_loss"), 0.02, False, unit=" nats", digits=3),
        _share("overlap", "overlap with the realised circuit", _own("overlap")),
        _share("newcomers", "newcomers trained", _own("newcomers")),
    )
}
"""By key, in the order of tables: what single runs have."""

FORGETTING = Measure(
    "forgetting", "retained loss at equal target loss", lambda record: None, 0.02, False, unit=" nats", digits=3
)
"""No run has it alone: it is of pairs of arms, see `frontier`."""


def by_unit(records: Iterable[Record], read: Read) -> dict[Unit, float]:
    """(task, (model, seed)) -> value, draws averaged: so many random masks do not count as so many facts."""
    draws: dict[Unit, list[float]] = {}
    for record in records:
        value = read(record)
        if value is not None:
            draws.setdefault((record.cell.task, record.cell.replicate), []).append(value)
    return {unit: sum(found) / len(found) for unit, found in draws.items()}


def minus(text: str) -> str:
    """Hyphens as minus signs, for reading."""
    return text.replace("-", "\N{MINUS SIGN}")
