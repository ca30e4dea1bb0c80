"""What a study says, with intervals.

Intervals are over tasks (over seeds if there is one task), see `foresight.common.intervals`, and concern the circuits
of the task that a run was trained on. For distances they are intervals of the `excess`, which is zero where nothing
differs but noise (see `foresight.studies.circuits.distance`), so the noise floor is already subtracted; raw means and
floors are given beside it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import combinations

import numpy as np

from ...common.intervals import Interval, mean_interval, paired_difference
from .tables import Row, Tables, grouped, where


def answer(tables: Tables) -> Tables:
    """Answers from the tables that `analysis.tabulate` makes, as lists of flat rows; intervals as in `columns_of`.

    Returns:
        moves: by strategy, scorer, step, kind and measure: mean distance from step 0, its floors, and the excess.
        heads_over_mlps: by strategy, scorer, step and measure: excess of heads minus excess of MLP blocks.
        staleness: by strategy, scorer and step: overlap of the step-0 map, ceiling, chance, held, and what is lost.
        stability: by strategy, scorer and step: the faithfulness of the step-0 circuit over that of the step's own
            where it is defined (`defined` of `runs`; undefined where the step's own explains nothing beyond noise), its
            floor, the interval of ratio - 1, and both faithfulnesses: `of_start` and `of_own`, over all runs.
        conflict: every two tasks on the base model, strongest first: value, interval, floor, and whether the value is
            beyond the floor.
        outcome: final accuracy and loss by strategy; with `minus`, the paired difference of two strategies.
        cost: by strategy: share of the runs' time that tracking took.
        failures: cells that failed, with their errors.
    """
    own = {name: [r for r in tables[name] if r["circuit_of"] == r["task"]]
           for name in ("distance", "between", "staleness", "stability")}  # fmt: skip
    failed = [row for row in tables["cost"] if row["error"]]
    since_start = where(own["distance"], since="start")
    return {
        "moves": _moves(since_start, own["between"]),
        "heads_over_mlps": _heads_over_mlps(since_start),
        "staleness": [
            group | _means(members, "overlap", "across", "ceiling", "chance", "held") | _interval(members, "lost")
            for group, members in grouped(own["staleness"], "strategy", "scorer", "step")
        ],
        "stability": _stability(own["stability"]),
        "conflict": _conflict(tables["signs"]),
        "outcome": _outcome(tables["metrics"]),
        "cost": [
            group | {"runs": len(members), "seconds": sum(r["seconds"] + r["replay_seconds"] for r in members)}
            | _means(members, "tracking_share")
            for group, members in grouped(tables["cost"], "strategy")
        ],
        "failures": [{name: row[name] for name in ("task", "strategy", "seed", "error")} for row in failed],
    }  # fmt: skip


def _moves(rows: Sequence[Row], between: Sequence[Row]) -> list[Row]:
    return [
        group
        | {"distance": _mean(members, "value"), "between_runs": _mean(where(between, **group), "between_runs")}
        | {"floor": _mean(members, "floor"), "beyond_floor": sum(r["value"] > r["floor_high"] for r in members)}
        | _interval(members, "excess")
        for group, members in grouped(rows, "strategy", "scorer", "step", "kind", "measure")
    ]


def _heads_over_mlps(rows: Sequence[Row]) -> list[Row]:
    found = []
    for group, members in grouped(rows, "strategy", "scorer", "step", "measure"):
        heads, mlps = (where(members, kind=kind) for kind in ("head", "mlp"))
        difference = paired_difference(_units(heads, "excess"), _units(mlps, "excess"))
        means = {"heads": _mean(heads, "excess"), "mlps": _mean(mlps, "excess")}
        found.append(group | means | columns_of(difference))
    return found


def _stability(rows: Sequence[Row]) -> list[Row]:
    of_start = [r | {"step": r["t"], "excess": r["value"] - 1} for r in where(rows, measure="ratio", s=0) if r["t"]]
    faithful = [r | {"step": r["t"]} for r in where(rows, measure="faithfulness")]
    return [
        group
        | {"ratio": _mean(members, "value"), "floor": _mean(members, "floor")}
        | {"defined": len(_units(members, "excess")), "runs": len(members)}
        | {"of_start": _mean(where(faithful, s=0, **group), "value")}
        | {"of_own": _mean(where(faithful, s=group["step"], **group), "value")}
        | {"between_runs": between_seeds(members, "value")}
        | _interval(members, "excess")
        for group, members in grouped(of_start, "strategy", "scorer", "step")
    ]


def _conflict(rows: Sequence[Row]) -> list[Row]:
    base = [{k: float("nan") if v is None else v for k, v in r.items()} for r in rows
            if r["seed"] is None and r["value"] is not None]  # fmt: skip
    names = ("task_a", "task_b", "value", "low", "high", "floor", "floor_high", "shared")
    strongest = sorted(base, key=lambda r: -r["value"])
    return [{name: r[name] for name in names} | {"beyond_floor": r["value"] > r["floor_high"]} for r in strongest]


def _outcome(rows: Sequence[Row]) -> list[Row]:
    """Accuracy and loss of the task trained on, at each run's last snapshot."""
    own = [row for row in rows if row["measured_task"] == row["task"]]
    last = [max(members, key=lambda r: r["step"]) for _, members in grouped(own, "task", "strategy", "seed")]
    found = []
    for metric in ("accuracy", "loss"):
        units = {group["strategy"]: _units(members, metric) for group, members in grouped(last, "strategy")}
        intervals = {(strategy, None): mean_interval(of_strategy) for strategy, of_strategy in units.items()}
        intervals |= {(a, b): paired_difference(units[a], units[b]) for a, b in combinations(units, 2)}
        found += [{"metric": metric, "strategy": strategy, "minus": minus} | columns_of(interval)
                  for (strategy, minus), interval in intervals.items()]  # fmt: skip
    return found


def between_seeds(rows: Iterable[Row], column: str) -> float:
    """The floor between runs that differ only in their seed: mean |difference| of a column over the pairs of seeds of
    each task; NaN without such pairs.
    """
    groups = grouped((row for row in rows if np.isfinite(row[column])), "task")
    apart = [abs(a[column] - b[column]) for _, members in groups for a, b in combinations(members, 2)]
    return float(np.mean(apart)) if apart else float("nan")


def _units(rows: Iterable[Row], column: str) -> dict[tuple[str, int], float]:
    """(task, seed) -> value, sorted, so that the resampling does not depend on the order in which runs finished."""
    return dict(sorted(((r["task"], r["seed"]), r[column]) for r in rows if np.isfinite(r[column])))


def _mean(rows: Sequence[Row], column: str) -> float:
    values = [r[column] for r in rows if np.isfinite(r[column])]
    return float(np.mean(values)) if values else float("nan")


def _means(rows: Sequence[Row], *columns: str) -> Row:
    return {name: _mean(rows, name) for name in columns}


def _interval(rows: Sequence[Row], column: str) -> Row:
    return columns_of(mean_interval(_units(rows, column)))


def columns_of(interval: Interval) -> Row:
    """The six columns of an interval: mean, interval_low, interval_high, n, units, decided."""
    return {"mean": interval.mean, "interval_low": interval.low, "interval_high": interval.high, "n": interval.n,
            "units": interval.units, "decided": interval.decided}  # fmt: skip
