"""What arms are compared by: how each measure is read off a run, and how it is shown."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from .results import Record

if TYPE_CHECKING:  # settings of a comparison are checked without scipy
    from ...common.intervals import Interval, Unit

Read = Callable[[Record], float | None]
K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


@dataclass(frozen=True)
class Measure:
    """A measure that arms are compared by.

    Attributes:
        read: its value for a scored run; None for a run without one.
        margin: the smallest difference worth having, in the measure's own unit.
        scale, unit, digits: how a value is shown: multiplied by `scale`, rounded; a difference is followed by `unit`.
        most: the largest possible difference, where the shown interval of a difference ends.
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
"""By key, in the order of tables: what a single run has."""

FORGETTING = Measure(
    "forgetting", "retained loss at equal target loss", lambda record: None, 0.02, False, unit=" nats", digits=3
)
"""A measure of pairs of arms, not of a single run; see `frontier`."""


def by_unit(records: Iterable[Record], read: Read) -> dict[Unit, float]:
    """(task, (model, seed)) -> value, averaged over draws: several random masks are not several independent facts."""
    values = ((unit_of(record), read(record)) for record in records)
    draws = grouped((unit, value) for unit, value in values if value is not None)
    return {unit: sum(found) / len(found) for unit, found in draws.items()}


def unit_of(record: Record) -> Unit:
    """(task, (model, seed)): what arms are paired over."""
    return record.cell.task, record.cell.replicate


def grouped(pairs: Iterable[tuple[K, V]]) -> dict[K, list[V]]:
    """Values by key, in the order of their first occurrence."""
    found: dict[K, list[V]] = {}
    for key, value in pairs:
        found.setdefault(key, []).append(value)
    return found


def minus(text: str) -> str:
    """The text with minus signs for hyphens."""
    return text.replace("-", "\N{MINUS SIGN}")
