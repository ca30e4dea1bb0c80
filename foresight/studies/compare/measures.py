"""What arms are compared by: how each measure is read off a run, and how it is shown."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from ...common.numbers import DASH, bracketed, number
from .results import Record

if TYPE_CHECKING:  # settings of a comparison are checked without scipy
    from ...common.intervals import Interval, Unit

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


@dataclass(frozen=True)
class Measure:
    """A measure that arms are compared by.

    Attributes:
        key: of the measure, and the field of `Measures` that holds it, if `last` names no field.
        margin: the smallest difference worth having, in the measure's own unit.
        last: the field of the last point of the curve that holds it.
        scale, unit, digits: how a value is shown: multiplied by `scale`, rounded; a difference is followed by `unit`.
        most: the largest possible difference, where the shown interval of a difference ends.
    """

    key: str
    label: str
    margin: float = 0.0
    higher_is_better: bool = True
    last: str | None = None
    scale: float = 1.0
    unit: str = ""
    digits: int = 2
    most: float = math.inf

    @property
    def sign(self) -> int:
        """1 if a higher value is better, otherwise -1."""
        return 1 if self.higher_is_better else -1

    @property
    def better(self) -> str:
        return "higher is better" if self.higher_is_better else "lower is better"

    def read(self, record: Record) -> float | None:
        """Its value for a scored run; None for a run without one."""
        found = record.measures
        if found is None or self.last is None:
            return getattr(found, self.key, None)
        return getattr(found.curve[-1], self.last) if found.curve else None

    def value(self, value: float | None) -> str:
        """For example ``81.2 %``."""
        if value is None:
            return DASH
        return number(value * self.scale, f".{self.digits}f") + (" %" if self.scale == 100 else "")

    def difference(self, interval: Interval) -> str:
        """For example ``+1.2 points [-0.4, +2.8]``."""
        if interval.mean is None:
            return "unknown"
        shown = interval.within(-self.most, self.most)
        form = f"+.{self.digits}f"
        return bracketed(shown.mean, shown.low, shown.high, form, scale=self.scale, unit=self.unit)


def _share(key: str, label: str, last: str | None = None) -> Measure:
    return Measure(key, label, 0.02, last=last, scale=100, unit=" points", digits=1, most=1)


def _loss(key: str, label: str, last: str | None = None) -> Measure:
    return Measure(key, label, 0.02, False, last, unit=" nats", digits=3)


MEASURES = {
    measure.key: measure
    for measure in (
        Measure("log_loss_area", "mean log loss over the run", 0.05, False),
        _share("target_accuracy", "target accuracy", "accuracy"),
        _loss("target_loss", "target loss", "loss"),
        _share("retained_accuracy", "retained accuracy", "retained_accuracy"),
        _loss("retained_loss", "retained loss", "retained_loss"),
        _share("overlap", "overlap with the realised circuit"),
        _share("newcomers", "newcomers trained"),
    )
}
"""By key, in the order of tables: what a single run has."""

FORGETTING = _loss("forgetting", "retained loss at equal target loss")
"""A measure of pairs of arms, not of a single run; see `frontier`."""


def by_unit(records: Iterable[Record], measure: Measure) -> dict[Unit, float]:
    """(task, (model, seed)) -> value, averaged over draws: several random masks are not several independent facts."""
    return {unit: sum(found) / len(found) for unit, found in draws(records, measure).items()}


def draws(records: Iterable[Record], measure: Measure) -> dict[Unit, list[float]]:
    """(task, (model, seed)) -> values of its draws."""
    values = ((record.cell.unit, measure.read(record)) for record in records)
    return grouped((unit, value) for unit, value in values if value is not None)


def grouped(pairs: Iterable[tuple[K, V]]) -> dict[K, list[V]]:
    """Values by key, in the order of their first occurrence."""
    found: dict[K, list[V]] = {}
    for key, value in pairs:
        found.setdefault(key, []).append(value)
    return found
