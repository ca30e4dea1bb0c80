"""From the records of a comparison to its numbers: a pure function, so a report can be rebuilt at any time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from .arms import ARMS
from .results import SCHEMA, Measures, Record
from .statistics import Interval, Unit, mean_interval, paired_difference
from .tuning import Tuned, tune
from .verdict import LOG_LOSS_AREA, TARGET_ACCURACY, Verdict, judge

CONTRASTS = (
    *((name, "static") for name in ARMS if name != "static"),
    *(("foresight", name) for name in ("random", "prior", "reactive", "oracle")),
)
"""Pairs of arms whose difference is reported; none is a test of its own, the verdict is the primary contrast."""


@dataclass(frozen=True)
class ArmSummary:
    """One arm over all scored runs. Seconds are means over runs, bytes the largest run's."""

    target_accuracy: Interval
    retained_accuracy: Interval
    overlap: Interval
    log_loss_area: Interval
    chance: float | None
    train_seconds: float | None
    scoring_seconds: float | None
    peak_bytes: int | None
    trainable: int | None
    learning_rate: float | None
    runs: int
    failed: int


@dataclass(frozen=True)
class Summary:
    """What a comparison found.

    Attributes:
        budget: share of all parameters that a mask may train.
        arms, tuning: by arm name. contrasts: "a - b" -> measure -> paired difference.
        base: held-out accuracy of the model before training, by task. retained: tasks of `retained_accuracy`.
        verdict: on target accuracy. speed: the same judgement on the learning curves, which are less noisy.
        failures: label and error of every failed run.
    """

    budget: float
    arms: dict[str, ArmSummary]
    contrasts: dict[str, dict[str, Interval]]
    tuning: dict[str, Tuned]
    base: dict[str, float]
    retained: tuple[str, ...]
    verdict: Verdict
    speed: Verdict
    failures: tuple[tuple[str, str], ...]

    def to_json(self) -> dict[str, Any]:
        """Plain data; learning rates that are keys become strings."""
        data = {"schema": SCHEMA, "sentence": self.verdict.sentence, **asdict(self)}
        data["failures"] = [{"run": run, "error": error} for run, error in self.failures]
        return data


def summarise(records: Sequence[Record], budget: float, retained: Sequence[str]) -> Summary:
    """Aggregate records of the stages base, tune and score.

    Random draws of one task and seed are averaged before anything else, so that an arm with three draws does not
    count as three facts. Failed runs are in no average; they are counted and listed.
    """
    names = [name for name in ARMS if any(r.cell.arm == name for r in records)]
    scored = {name: [r for r in records if r.cell.stage == "score" and r.cell.arm == name] for name in names}
    tuning = {name: tune(r for r in records if r.cell.stage == "tune" and r.cell.arm == name) for name in names}
    values: dict[str, dict[str, dict[Unit, float]]] = {
        key: {name: _by_unit(scored[name], key, retained) for name in names}
        for key in ("target_accuracy", "retained_accuracy", "overlap", "log_loss_area")
    }
    failed = {name: sum(r.failed for r in scored[name]) for name in names}
    for name in names:  # no learning rate worked: the arm was never scored
        failed[name] = failed[name] or (0 if scored[name] else len(tuning[name].areas))
    summaries = {name: _arm(scored[name], {key: values[key][name] for key in values}, tuning[name]) for name in names}
    contrasts = {
        f"{a} - {b}": {key: paired_difference(values[key][a], values[key][b]) for key in values if key != "overlap"}
        for a, b in CONTRASTS
        if a in names and b in names
    }
    base = next((r.measures.accuracy for r in records if r.cell.stage == "base" and r.measures), {})
    return Summary(
        budget=budget,
        arms=summaries,
        contrasts=contrasts,
        tuning=tuning,
        base=base,
        retained=tuple(retained),
        verdict=judge(values["target_accuracy"], failed, TARGET_ACCURACY),
        speed=judge(values["log_loss_area"], failed, LOG_LOSS_AREA),
        failures=tuple((r.cell.label, r.error or "") for r in records if r.failed),
    )


def _arm(records: Sequence[Record], values: dict[str, dict[Unit, float]], tuned: Tuned) -> ArmSummary:
    done = [r.measures for r in records if r.measures]
    mean = lambda found: float(np.mean(found)) if found else None  # noqa: E731
    shares = ("target_accuracy", "retained_accuracy", "overlap")
    intervals = {key: mean_interval(by_unit) for key, by_unit in values.items()}
    return ArmSummary(
        **{key: found.within(0, 1) if key in shares else found for key, found in intervals.items()},
        chance=mean([m.chance for m in done if m.chance is not None]),
        train_seconds=mean([m.train_seconds for m in done]),
        scoring_seconds=mean([m.scoring_seconds for m in done]),
        peak_bytes=max((m.peak_bytes for m in done), default=None),
        trainable=max((m.trainable for m in done), default=None),
        learning_rate=tuned.learning_rate,
        runs=len(records),
        failed=sum(r.failed for r in records),
    )


def _by_unit(records: Sequence[Record], key: str, retained: Sequence[str]) -> dict[Unit, float]:
    """(task, seed) -> value of a measure, averaged over draws."""
    draws: dict[Unit, list[float]] = {}
    for record in records:
        value = _value(record.measures, key, record.cell.task, retained) if record.measures else None
        if value is not None:
            draws.setdefault((record.cell.task, record.cell.seed), []).append(value)
    return {unit: float(np.mean(found)) for unit, found in draws.items()}


def _value(measures: Measures, key: str, task: str, retained: Sequence[str]) -> float | None:
    if key == "target_accuracy":
        return measures.accuracy[task]
    if key == "retained_accuracy":
        others = [measures.accuracy[name] for name in retained if name != task]
        return float(np.mean(others)) if others else None
    return getattr(measures, key)
