"""The numbers of a comparison, computed from its records alone, so that a report can be rebuilt at any time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np

from ...common.intervals import Interval, holm, mean_interval
from ..ledger import SCHEMA
from .baseline import ArmValues, task_means
from .contrasts import AmongRandom, Contrast, among_draws, contrasts, decided
from .learned import opening
from .measures import MEASURES, by_unit, grouped
from .part import Broken, Part, Tuned
from .results import Measures, Record
from .settings import CompareConfig
from .verdict import Verdict, judge


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
        among_random: arms among the draws of the random arm, see `among_draws`.
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
    parts = [Part(records, config, budget) for budget in config.budgets]
    lost = {run.run: run for part in parts for run in part.lost}
    scored = {record.key for part in parts for found in part.scored.values() for record in found}
    base = _base(records)
    able = {task: value for task, value in base["accuracy"].items() if task in config.retained()}
    others = [r for r in records if r.failed and r.key not in scored]
    return Summary(
        measure=config.primary_measure,
        budgets=corrected([_of_budget(part, able) for part in parts]),
        base=base,
        retained=tuple(config.retained()),
        broken=tuple(lost.values()),
        failures=tuple((r.cell.label, r.error or "") for r in others),
    )


def _of_budget(part: Part, able: Mapping[str, float]) -> BudgetSummary:
    primary = part.values(part.config.measure)
    means = {name: task_means(values) for name, values in primary.items()}
    verdict = judge(primary, part.config, part.damaged)
    tasks = dict.fromkeys(task for of in means.values() for task in of)
    return BudgetSummary(
        budget=part.budget,
        verdict=replace(verdict, sentence=f"{opening(part.whole, able)} {verdict.sentence}".lstrip()),
        arms={name: _of_arm(part, name) for name in part.arms},
        contrasts=contrasts(part),
        tasks={task: {name: of[task] for name, of in means.items() if task in of} for task in tasks},
        ceiling=Ceiling(_circuits(part.whole["full"]), _spread(primary)),
        tuning=part.tuning,
        among_random=among_draws(part),
    )


def _of_arm(part: Part, name: str) -> ArmSummary:
    runs, tuned = part.whole[name], part.tuning[name]
    done = [r.measures for r in runs if r.measures]
    intervals = {key: mean_interval(by_unit(runs, measure)) for key, measure in MEASURES.items()}
    steps = [np.inf if m.steps_to_target is None else m.steps_to_target for m in done]
    median = float(np.median(steps)) if done else np.inf
    how = [run.how for run in part.lost if run.arm == name]

    def mean(read: Callable[[Measures], float | None]) -> float | None:
        known = [value for m in done if (value := read(m)) is not None]
        return float(np.mean(known)) if known else None

    return ArmSummary(
        measures={key: found.within(0, 1) if MEASURES[key].most == 1 else found for key, found in intervals.items()},
        reached=float(np.isfinite(steps).mean()) if done else None,
        steps_to_target=median if np.isfinite(median) else None,
        train_seconds=mean(lambda m: m.train_seconds),
        scoring_seconds=mean(lambda m: m.scoring_seconds),
        peak_bytes=max((m.peak_bytes for m in done), default=None),
        trainable=mean(lambda m: m.trainable / m.model_parameters if m.model_parameters else None),
        touched=mean(lambda m: m.touched / m.model_parameters if m.model_parameters else None),
        chance=mean(lambda m: m.chance),
        learning_rate=tuned.learning_rate,
        memory=tuned.memory,
        runs=len(part.scored[name]),
        broken={kind: how.count(kind) for kind in dict.fromkeys(how)},
    )


def corrected(parts: Sequence[BudgetSummary]) -> tuple[BudgetSummary, ...]:
    """Holm's correction over the tested secondary contrasts of all budgets, with all verdicts except the first.

    Broken arms are not tested.
    """
    tested: dict[tuple[int, int], float] = {}
    for at, part in enumerate(parts):
        tested |= {(at, i): c.p for i, c in enumerate(part.contrasts) if c.p is not None and c.outcome != "broken"}
        gain = part.verdict.gain
        if at > 0 and gain and gain.p is not None and part.verdict.outcome != "broken":
            tested[at, -1] = gain.p
    adjusted = holm(tested)
    return tuple(
        replace(
            part,
            contrasts=tuple(decided(contrast, adjusted.get((at, i))) for i, contrast in enumerate(part.contrasts)),
            p_holm=adjusted.get((at, -1)),
        )
        for at, part in enumerate(parts)
    )


def _spread(values: ArmValues) -> float | None:
    every = [(name, unit, value) for name, of in values.items() for unit, value in of.items()]
    seeds = grouped(((name, task, model), value) for name, (task, (model, _)), value in every)
    variances = [float(np.var(group, ddof=1)) for group in seeds.values() if len(group) > 1]
    return float(np.sqrt(np.mean(variances))) if variances else None


def _circuits(full: Sequence[Record]) -> Interval:
    """Overlap of realised circuits, in shares of their components, between seeds of one task and base model."""
    circuits = grouped(
        ((r.cell.task, r.cell.model), set(r.measures.realised)) for r in full if r.measures and r.measures.realised
    )
    shares = {
        unit: float(np.mean([2 * len(a & b) / (len(a) + len(b)) for a, b in combinations(found, 2)]))
        for unit, found in circuits.items()
        if len(found) > 1
    }
    return mean_interval(shares).within(0, 1)


def _base(records: Iterable[Record]) -> dict[str, dict[str, float]]:
    done = [r.measures for r in records if r.cell.stage == "base" and r.measures]
    found = {key: grouped(pair for m in done for pair in getattr(m, key).items()) for key in ("accuracy", "loss")}
    return {key: {task: float(np.mean(values)) for task, values in of.items()} for key, of in found.items()}
