"""The numbers of a comparison, computed from its records alone, so that a report can be rebuilt at any time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np

from ...common.intervals import Interval, Unit, mean_interval
from ..ledger import SCHEMA
from .arms import Arm
from .broken import Broken, broken
from .contrasts import Contrast, contrasts, corrected
from .draws import AmongRandom, among_draws
from .measures import MEASURES, by_unit, grouped
from .results import Measures, Record
from .settings import CompareConfig
from .tuning import Tuned, tune
from .verdict import ArmValues, Question, Verdict, judge

SHARES = ("target_accuracy", "retained_accuracy", "overlap", "newcomers")


@dataclass(frozen=True)
class ArmSummary:
    """One arm over its scored runs at one budget. Broken runs count only in `runs` and `broken`.

    Attributes:
        measures: key of a measure -> its interval.
        reached: share of the runs that reached the target accuracy.
        steps_to_target: median over all runs; None if fewer than half reached it.
        train_seconds, scoring_seconds: mean per run. peak_bytes: of the largest run.
        trainable, touched: shares of all parameters, trained at a time and at some time.
        chance: overlap of a random mask of this size.
        broken: how a run is broken -> number of runs.
    """

    measures: dict[str, Interval]
    reached: float | None
    steps_to_target: float | None
    train_seconds: float | None
    scoring_seconds: float | None
    peak_bytes: int | None
    trainable: float | None
    touched: float | None
    chance: float | None
    learning_rate: float | None
    memory: str | None
    runs: int
    broken: dict[str, int]


@dataclass(frozen=True)
class Ceiling:
    """How far runs that differ only in their seed agree.

    Attributes:
        circuits: overlap of the realised circuits of two seeds of one task.
        spread: standard deviation of the primary measure between seeds of one arm on one task; None with one seed.
    """

    circuits: Interval
    spread: float | None


@dataclass(frozen=True)
class BudgetSummary:
    """What was found at one budget.

    Attributes:
        arms, tuning: by arm.
        tasks: task -> arm -> mean of the primary measure.
        among_random: arms among the draws of the random arm, see `draws`.
        p_holm: of the verdict; None at the first budget, whose verdict is not one of the secondary contrasts.
    """

    budget: float
    verdict: Verdict
    arms: dict[str, ArmSummary]
    contrasts: tuple[Contrast, ...]
    tasks: dict[str, dict[str, float]]
    ceiling: Ceiling
    tuning: dict[str, Tuned]
    among_random: tuple[AmongRandom, ...]
    p_holm: float | None = None


@dataclass(frozen=True)
class Summary:
    """What a comparison found.

    Attributes:
        measure: key of the primary measure.
        budgets: in the order of the settings; the verdict is that of the first.
        base: "accuracy" or "loss" -> task -> mean over the models before training.
        broken: runs that are in no average, see `broken`.
        failures: label and error of failed runs of other stages.
    """

    measure: str
    budgets: tuple[BudgetSummary, ...]
    base: dict[str, dict[str, float]]
    retained: tuple[str, ...]
    broken: tuple[Broken, ...]
    failures: tuple[tuple[str, str], ...]

    @property
    def verdict(self) -> Verdict:
        """The answer to the comparison's question."""
        return self.budgets[0].verdict

    def to_json(self) -> dict[str, Any]:
        """Plain data; budgets and learning rates that are keys become strings."""
        return {"schema": SCHEMA, "sentence": self.verdict.sentence, "power": self.verdict.power, **asdict(self)}


def summarise(records: Sequence[Record], config: CompareConfig) -> Summary:
    """Aggregate the records of a comparison.

    Draws of one task, base model and seed are averaged first, because they are not independent facts. Broken runs are
    in no average; they are counted and listed.
    """
    arms = config.chosen()
    parts = [Part(records, config, arms, budget) for budget in config.budgets]
    lost = {run.run: run for part in parts for run in part.lost}
    scored = {record.key for part in parts for found in part.scored.values() for record in found}
    others = [r for r in records if r.failed and r.key not in scored]
    return Summary(
        measure=config.primary_measure,
        budgets=_corrected([part.summary() for part in parts]),
        base=_base(records),
        retained=tuple(config.retained()),
        broken=tuple(lost.values()),
        failures=tuple((r.cell.label, r.error or "") for r in others),
    )


class Part:
    """The records of one budget, by arm. Arms without a mask are the same at every budget.

    Attributes:
        points: scored runs at all settings.
        scored: those at the tuned settings; whole: those of them that are not broken.
        lost: broken runs, and arms that could not be scored at all; damaged: their arms.
    """

    def __init__(self, records: Sequence[Record], config: CompareConfig, arms: dict[str, Arm], budget: float):
        self.config, self.arms, self.budget = config, arms, budget
        of = {
            name: [r for r in records if r.cell.arm == name and (arm.trains_everything or r.cell.budget == budget)]
            for name, arm in arms.items()
        }
        self.tuning = {name: tune(r for r in of[name] if r.cell.stage == "tune") for name in arms}
        self.points = {name: [r for r in of[name] if r.cell.stage == "score"] for name in arms}
        self.scored = {name: [r for r in self.points[name] if self._is_tuned(r)] for name in arms}
        every = [r for found in self.scored.values() for r in found]
        self.broken = broken(every)
        self.whole = {name: [r for r in found if r.key not in self.broken] for name, found in self.scored.items()}
        self.lost = [*self.broken.values(), *self._never_scored()]
        self.damaged = {run.arm for run in self.lost}

    def _is_tuned(self, record: Record) -> bool:
        tuned = self.tuning[record.cell.arm]
        if not self.config.frontier or tuned.learning_rate is None:
            return True
        return (record.cell.learning_rate, record.cell.memory) == (tuned.learning_rate, tuned.memory)

    def _never_scored(self) -> list[Broken]:
        words = "every setting that it was tuned over has a failed run, so it was never scored"
        return [
            Broken(name, "failed", f"tune {name}, budget {self.budget:g}", words)
            for name, tuned in self.tuning.items()
            if tuned.areas and tuned.learning_rate is None and not self.scored[name]
        ]

    def summary(self) -> BudgetSummary:
        config, measure = self.config, MEASURES[self.config.primary_measure]
        primary = self._values(measure.key)
        question = Question(
            arm=config.primary_arm,
            against=tuple(config.against),
            oracles=tuple(arm.name for arm in self.arms.values() if arm.hindsight),
            measure=measure,
            labels={name: arm.label for name, arm in self.arms.items()},
        )
        return BudgetSummary(
            budget=self.budget,
            verdict=judge(primary, question, self.damaged),
            arms={name: self._arm(name) for name in self.arms},
            contrasts=contrasts(self.whole, self.points, config, self.damaged),
            tasks=_per_task(primary),
            ceiling=Ceiling(_circuits(self.whole.get("full", [])), _spread(primary)),
            tuning=self.tuning,
            among_random=among_draws(self.whole, self.points, self.arms, measure),
        )

    def _values(self, key: str) -> dict[str, dict[Unit, float]]:
        return {name: by_unit(found, MEASURES[key].read) for name, found in self.whole.items()}

    def _arm(self, name: str) -> ArmSummary:
        done = [r.measures for r in self.whole[name] if r.measures]
        tuned = self.tuning[name]
        intervals = {key: mean_interval(by_unit(self.whole[name], measure.read)) for key, measure in MEASURES.items()}
        intervals |= {key: intervals[key].within(0, 1) for key in SHARES}
        steps = [np.inf if m.steps_to_target is None else m.steps_to_target for m in done]
        median = float(np.median(steps)) if done else np.inf
        how = [run.how for run in self.lost if run.arm == name]
        return ArmSummary(
            measures=intervals,
            reached=float(np.isfinite(steps).mean()) if done else None,
            steps_to_target=median if np.isfinite(median) else None,
            train_seconds=_mean(done, lambda m: m.train_seconds),
            scoring_seconds=_mean(done, lambda m: m.scoring_seconds),
            peak_bytes=max((m.peak_bytes for m in done), default=None),
            trainable=_mean(done, lambda m: _share(m.trainable, m)),
            touched=_mean(done, lambda m: _share(m.touched, m)),
            chance=_mean(done, lambda m: m.chance),
            learning_rate=tuned.learning_rate,
            memory=tuned.memory,
            runs=len(self.scored[name]),
            broken={kind: how.count(kind) for kind in dict.fromkeys(how)},
        )


def _corrected(parts: Sequence[BudgetSummary]) -> tuple[BudgetSummary, ...]:
    """Holm's correction over the secondary contrasts of all budgets, with all verdicts except the first."""
    others = {
        part.budget: part.verdict.gain.p
        for part in parts[1:]
        if part.verdict.gain and part.verdict.gain.p is not None and part.verdict.outcome != "broken"
    }
    found, adjusted = corrected({part.budget: part.contrasts for part in parts}, others)
    return tuple(replace(p, contrasts=found[p.budget], p_holm=adjusted.get(p.budget)) for p in parts)


def _per_task(values: ArmValues) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    for name, of in values.items():
        for task, group in grouped((task, value) for (task, _), value in of.items()).items():
            found.setdefault(task, {})[name] = float(np.mean(group))
    return found


def _spread(values: ArmValues) -> float | None:
    seeds = grouped(
        ((name, task, model), value) for name, of in values.items() for (task, (model, _)), value in of.items()
    )
    variances = [float(np.var(group, ddof=1)) for group in seeds.values() if len(group) > 1]
    return float(np.sqrt(np.mean(variances))) if variances else None


def _circuits(full: Sequence[Record]) -> Interval:
    """Overlap of realised circuits, in shares of their components, between seeds of one task and base model."""
    circuits = grouped(
        ((r.cell.task, r.cell.model), set(r.measures.realised)) for r in full if r.measures and r.measures.realised
    )
    shares: dict[Unit, float] = {}
    for unit, found in circuits.items():
        pairs = [2 * len(a & b) / (len(a) + len(b)) for a, b in combinations(found, 2)]
        if pairs:
            shares[unit] = float(np.mean(pairs))
    return mean_interval(shares).within(0, 1)


def _base(records: Iterable[Record]) -> dict[str, dict[str, float]]:
    done = [r.measures for r in records if r.cell.stage == "base" and r.measures]
    found = {key: grouped(pair for m in done for pair in getattr(m, key).items()) for key in ("accuracy", "loss")}
    return {key: {task: float(np.mean(values)) for task, values in of.items()} for key, of in found.items()}


def _mean(done: Sequence[Measures], read: Callable[[Measures], float | None]) -> float | None:
    known = [value for m in done if (value := read(m)) is not None]
    return float(np.mean(known)) if known else None


def _share(count: int, measures: Measures) -> float | None:
    return count / measures.model_parameters if measures.model_parameters else None
