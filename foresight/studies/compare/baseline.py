"""One arm against the best of several, when nobody said in advance which that is.

Picking the best on the very runs that it is compared on flatters it. So there are three answers:

- *nested*: for each task the baseline is the arm that is best on all other tasks. The task has no part in the choice,
  so equal arms differ by zero on average. But the choices for two tasks share their runs, which a t-test of these
  differences ignores: with four equal baselines on fifteen tasks it finds something in 13 % of all cases.
- So the *interval* and *p* rest on no choice. An arm is better than the best baseline if it is better than each (the
  intersection-union test, R. L. Berger, Technometrics 24, 1982), so the lower end is the lowest of the intervals
  against each, uncorrected. It is worse if it is worse than any, so the upper end is the lowest upper end, each at
  Bonferroni's level.
- *hindsight*: against the arm that is best on all tasks. It flatters the baseline, and is never above the nested one.

The combination of the three is this project's own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ...common.intervals import LEVEL, Interval, Unit, mean_interval, p_value
from .measures import grouped

ArmValues = Mapping[str, Mapping[Unit, float]]
"""Arm -> unit -> value, averaged over draws. Here higher is better."""


@dataclass(frozen=True)
class AgainstBest:
    """One arm minus the best of several; higher is better.

    Attributes:
        nested: the mean is of the nested choice, the interval of the arm minus the best, whichever that is.
        hindsight: against `best`, with its own interval.
        p: two-sided, of the test that belongs to the interval; None without one.
        by_task: task -> the baseline that is best on the other tasks (on the same one if it is the only one).
    """

    nested: Interval
    hindsight: Interval
    p: float | None
    best: str
    by_task: dict[str, str]


def choose(means: Mapping[str, Mapping[str, float]]) -> tuple[str, dict[str, str]]:
    """Name -> task -> value: the name that is best on all tasks, and for each task the one that is best on the others.

    All must have the same tasks. Of equals the first is taken.
    """
    tasks = list(next(iter(means.values())))

    def best(known: Sequence[str]) -> str:
        return max(means, key=lambda name: round(sum(means[name][task] for task in known), 12))

    return best(tasks), {task: best([t for t in tasks if t != task] or tasks) for task in tasks}


def task_means(values: Mapping[Unit, float]) -> dict[str, float]:
    tasks = grouped((task, value) for (task, _), value in values.items())
    return {task: float(np.mean(found)) for task, found in tasks.items()}


def against_best(mine: Mapping[Unit, float], baselines: ArmValues, level: float = LEVEL) -> AgainstBest | None:
    """Compare on the units that all have; None if there are none."""
    found = gains(mine, baselines)
    shared = list(next(iter(found.values()), {}))
    if not shared:
        return None
    best, by_task = choose({name: task_means({unit: baselines[name][unit] for unit in shared}) for name in found})
    estimate = mean_interval({unit: found[by_task[unit[0]]][unit] for unit in shared}, level)
    bonferroni = 1 - (1 - level) / len(found)
    lows = [mean_interval(values, level).low for values in found.values()]
    highs = [mean_interval(values, bonferroni).high for values in found.values()]
    if estimate.low is not None and estimate.mean is not None:
        # The nested mean is never below the lower end, but may be above the upper one; a wider interval holds as well.
        high = max(estimate.mean, min(value for value in highs if value is not None))
        estimate = replace(estimate, low=min(value for value in lows if value is not None), high=high)
    # All have a p-value, or none, as they share their units.
    better = [p for values in found.values() if (p := p_value(values, "greater")) is not None]
    worse = [p for values in found.values() if (p := p_value(values, "less")) is not None]
    p = min(1.0, 2 * min(max(better), len(found) * min(worse))) if better else None
    return AgainstBest(estimate, mean_interval(found[best], level), p, best, by_task)


def gains(mine: Mapping[Unit, float], baselines: ArmValues) -> dict[str, dict[Unit, float]]:
    """Baseline -> unit -> advantage over it, on the units that all have."""
    shared = [unit for unit in mine if all(unit in values for values in baselines.values())]
    return {name: {unit: mine[unit] - values[unit] for unit in shared} for name, values in baselines.items()}
