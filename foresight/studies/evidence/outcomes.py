"""The result of one set of heads: settings tuned on the validation questions, effect read on the test questions.

All sets, the random ones included, are tuned alike: over the same settings, for the same measure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from .cells import Record

Kind = Literal["localized", "random", "full", "lora"]
LOCALIZED: Kind = "localized"
RANDOM: Kind = "random"
FULL: Kind = "full"
LORA_ARM: Kind = "lora"

Setting = tuple[float, float]
"""(tau, learning rate) of an optimal edit, (0, strength) of a shift."""


@dataclass(frozen=True)
class Arm:
    """A set of heads for each seed (a localizer may find other heads with other questions); empty for LoRA."""

    name: str
    kind: Kind
    heads: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Point:
    """One setting of one set of heads, averaged over seeds.

    Attributes:
        tau, value: the `Setting`.
        validation, test: effect on the validation and the test questions.
        kl: KL(after || before) in nats.
        retained: mean accuracy over retained tasks; None without any.
    """

    tau: float
    value: float
    validation: float
    test: float
    kl: float
    retained: float | None


@dataclass(frozen=True)
class Outcome:
    """One set of heads at the setting that is best on the validation questions.

    Attributes:
        answers: effect by test question, averaged over seeds.
        points: all settings.
        failed: number of runs that failed.
    """

    name: str
    kind: Kind
    heads: tuple[tuple[str, ...], ...]
    best: Point
    answers: tuple[float, ...]
    points: tuple[Point, ...]
    failed: int = 0


def outcome(
    arm: Arm, runs: Mapping[Setting, Sequence[Record]], effect: str, max_divergence: float | None = None
) -> Outcome | None:
    """Tune one set of heads; ties go to the smaller divergence. None if no setting finished for every seed.

    Settings that exceed `max_divergence` are not chosen, unless all do: then the one with the smallest divergence is.
    """
    points: dict[Setting, tuple[Point, np.ndarray]] = {}
    failed = 0
    for setting, found in runs.items():
        measured = [record.measures for record in found if record.measures]
        failed += len(found) - len(measured)
        if not measured or len(measured) < len(found):
            continue
        kept = [np.mean(list(m.retained.values())) for m in measured if m.retained]
        point = Point(
            *setting,
            validation=float(np.mean([m.validation[effect] for m in measured])),
            test=float(np.mean([m.test[effect] for m in measured])),
            kl=float(np.mean([m.kl for m in measured])),
            retained=float(np.mean(kept)) if kept else None,
        )
        points[setting] = point, np.mean([m.answers[effect] for m in measured], 0)
    if not points:
        return None
    allowed = [found for found in points.values() if max_divergence is None or found[0].kl <= max_divergence]
    allowed = allowed or [min(points.values(), key=lambda found: found[0].kl)]
    best, answers = max(allowed, key=lambda found: (round(found[0].validation, 12), -found[0].kl))
    every = tuple(point for point, _ in points.values())
    return Outcome(arm.name, arm.kind, arm.heads, best, tuple(answers.tolist()), every, failed)
