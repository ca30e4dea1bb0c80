"""What a study says, with intervals: do circuits move, do heads move more than MLPs, how stale is the map of step 0.

Intervals are over tasks (over seeds if there is one task), see `foresight.common.intervals`, and concern the circuits
of the task that a run was trained on. For distances they are intervals of the `excess`, which is zero where nothing
differs but noise (see `foresight.studies.circuits.distance`), so the noise floor is already subtracted; raw means and
floors are given beside it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import numpy as np

from ...common.files import json_rows
from ...common.intervals import Interval, mean_interval, paired_difference
from .tables import Row

Tables = dict[str, list[Row]]


@dataclass(frozen=True)
class Answers:
    """Lists of flat rows. An interval takes six columns: mean, interval_low, interval_high, n, units, decided.

    Attributes:
        moves: by strategy, scorer, step, kind and measure: mean distance from step 0, its floors, and the excess.
        heads_over_mlps: by strategy, scorer, step and measure: excess of heads minus excess of MLP blocks.
        staleness: by strategy, scorer and step: overlap of the step-0 map, ceiling, chance, held, and what is lost.
        stability: by strategy, scorer and step: the faithfulness of the step-0 circuit over that of the step's own
            where it is defined (`defined` of `runs`), its floor, and the interval of ratio - 1.
        conflict: every two tasks on the base model, strongest first: value, interval, floor, and whether the value is
            beyond the floor.
        outcome: final accuracy and loss by strategy; with `minus`, the paired difference of two strategies.
        cost: by strategy: share of the runs' time that tracking took.
        failures: cells that failed, with their errors.
    """

    moves: list[Row]
    heads_over_mlps: list[Row]
    staleness: list[Row]
    stability: list[Row]
    conflict: list[Row]
    outcome: list[Row]
    cost: list[Row]
    failures: list[Row]

    def to_json(self) -> dict[str, Any]:
        """Undefined numbers become null."""
        return {name: json_rows(rows) for name, rows in asdict(self).items()}


def answer(tables: Tables) -> Answers:
    """Answers from the tables that `analysis.tabulate` makes."""
    own = {name: [r for r in tables[name] if r["circuit_of"] == r["task"]] for name in ("distance", "staleness")}
    since_start = [row for row in own["distance"] if row["since"] == "start"]
    failures = [row for row in tables["cost"] if row["error"]]
    return Answers(
        moves=_moves(since_start, tables["between"]),
        heads_over_mlps=_heads_over_mlps(since_start),
        staleness=_staleness(own["staleness"]),
        stability=_stability(tables["stability"]),
        conflict=_conflict(tables["signs"]),
        outcome=_outcome(tables["metrics"]),
        cost=_cost(tables["cost"]),
        failures=[{name: row[name] for name in ("task", "strategy", "seed", "error")} for row in failures],
    )


def _moves(rows: Sequence[Row], between: Sequence[Row]) -> list[Row]:
    found = []
    for group, members in _grouped(rows, "strategy", "scorer", "step", "kind", "measure"):
        runs = [r["between_runs"] for r in between
                if r["circuit_of"] == r["task"] and all(r[name] == value for name, value in group.items())]  # fmt: skip
        found.append(group | {
            "distance": _mean(members, "value"),
            "floor": _mean(members, "floor"),
            "between_runs": float(np.mean(runs)) if runs else float("nan"),
            "beyond_floor": sum(r["value"] > r["floor_high"] for r in members),
        } | _spread(mean_interval(_units(members, "excess"))))  # fmt: skip
    return found


def _heads_over_mlps(rows: Sequence[Row]) -> list[Row]:
    found = []
    for group, members in _grouped(rows, "strategy", "scorer", "step", "measure"):
        heads, mlps = ([r for r in members if r["kind"] == kind] for kind in ("head", "mlp"))
        found.append(group | {"heads": _mean(heads, "excess"), "mlps": _mean(mlps, "excess")}
                     | _spread(paired_difference(_units(heads, "excess"), _units(mlps, "excess"))))  # fmt: skip
    return found


def _staleness(rows: Sequence[Row]) -> list[Row]:
    columns = ("overlap", "across", "ceiling", "chance", "held")
    return [group | {name: _mean(members, name) for name in columns} | _spread(mean_interval(_units(members, "lost")))
            for group, members in _grouped(rows, "strategy", "scorer", "step")]  # fmt: skip


def _stability(rows: Sequence[Row]) -> list[Row]:
    of_start = [r | {"step": r["t"], "excess": r["value"] - 1} for r in rows
                if r["measure"] == "ratio" and r["s"] == 0 < r["t"] and r["circuit_of"] == r["task"]]  # fmt: skip
    found = []
    for group, members in _grouped(of_start, "strategy", "scorer", "step"):
        units = _units(members, "excess")
        columns = {"ratio": _mean(members, "value"), "floor": _mean(members, "floor"), "defined": len(units),
                   "between_runs": between_seeds(members, "value")}  # fmt: skip
        found.append(group | columns | {"runs": len(members)} | _spread(mean_interval(units)))
    return found


def _conflict(rows: Sequence[Row]) -> list[Row]:
    base = [{k: float("nan") if v is None else v for k, v in r.items()} for r in rows
            if r["seed"] is None and r["value"] is not None]  # fmt: skip
    names = ("task_a", "task_b", "value", "low", "high", "floor", "floor_high", "shared")
    strongest = sorted(base, key=lambda r: -r["value"])
    return [{name: r[name] for name in names} | {"beyond_floor": r["value"] > r["floor_high"]} for r in strongest]


def _outcome(rows: Sequence[Row]) -> list[Row]:
    """Accuracy and loss of the task trained on, at each run's last snapshot."""
    last: dict[tuple[str, str, int], Row] = {}
    for row in rows:
        if row["measured_task"] == row["task"]:
            key = row["task"], row["strategy"], row["seed"]
            last[key] = max(last.get(key, row), row, key=lambda r: r["step"])
    strategies = list(dict.fromkeys(strategy for _, strategy, _ in last))
    found = []
    for metric in ("accuracy", "loss"):
        units = {s: _units([r for r in last.values() if r["strategy"] == s], metric) for s in strategies}
        for strategy in strategies:
            row = {"metric": metric, "strategy": strategy, "minus": None}
            found.append(row | _spread(mean_interval(units[strategy])))
        for a, b in combinations(strategies, 2):
            found.append({"metric": metric, "strategy": a, "minus": b} | _spread(paired_difference(units[a], units[b])))
    return found


def _cost(rows: Sequence[Row]) -> list[Row]:
    return [group | {"runs": len(members), "seconds": sum(r["seconds"] + r["replay_seconds"] for r in members),
                     "tracking_share": _mean(members, "tracking_share")}
            for group, members in _grouped(rows, "strategy")]  # fmt: skip


def between_seeds(rows: Iterable[Row], column: str) -> float:
    """The floor between runs that differ only in their seed: mean |difference| of a column over the pairs of seeds of
    each task; NaN without such pairs.
    """
    groups = _grouped((row for row in rows if np.isfinite(row[column])), "task")
    apart = [abs(a[column] - b[column]) for _, members in groups for a, b in combinations(members, 2)]
    return float(np.mean(apart)) if apart else float("nan")


def _grouped(rows: Iterable[Row], *names: str) -> list[tuple[Row, list[Row]]]:
    """Rows by the values of some columns, in the order of first appearance."""
    groups: dict[tuple, list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row[name] for name in names), []).append(row)
    return [(dict(zip(names, key, strict=True)), members) for key, members in groups.items()]


def _units(rows: Iterable[Row], column: str) -> dict[tuple[str, int], float]:
    """(task, seed) -> value, sorted, so that the resampling does not depend on the order in which runs finished."""
    return dict(sorted(((r["task"], r["seed"]), r[column]) for r in rows if np.isfinite(r[column])))


def _mean(rows: Sequence[Row], column: str) -> float:
    values = [r[column] for r in rows if np.isfinite(r[column])]
    return float(np.mean(values)) if values else float("nan")


def _spread(interval: Interval) -> Row:
    return {"mean": interval.mean, "interval_low": interval.low, "interval_high": interval.high, "n": interval.n,
            "units": interval.units, "decided": interval.decided}  # fmt: skip
