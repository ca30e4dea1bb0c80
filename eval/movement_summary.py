"""What follows from the cells of the study of movement: gains of masks, their share of hindsight's, overlaps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from foresight.common.intervals import mean_interval

Cells = dict[str, Any]
"""{"task|rate|arm": what came of it}; arm "full" has the overlaps of forecasts with the hindsight mask."""


def summarise(tasks: Sequence[str], rates: Sequence[float], names: Sequence[str], cells: Cells) -> dict[str, Any]:
    """Of the tasks of which every cell is there; names: of the arms that have a mask."""
    everyone = [*names, "full"]
    done = [t for t in tasks if all(f"{t}|{r:g}|{a}" in cells for r in rates for a in everyone)]
    chosen = {(t, a): _tuned(cells, rates, done, t, a) for t in done for a in everyone}
    summary: dict[str, Any] = {"tasks": done, "rates": {f"{t}|{a}": rate for (t, a), rate in chosen.items()}}
    if not done:
        return summary

    def area(t: str, a: str) -> float:
        return cells[f"{t}|{chosen[t, a]:g}|{a}"]["area"]

    def of(arm: str, key: str) -> list[Any]:
        return [cells[f"{t}|{r:g}|{arm}"][key] for t in done for r in rates]

    found = of("full", "overlaps")
    return summary | {
        "arms": {a: _against(a, done, area) for a in everyone},
        "mask overlaps": {a: float(np.mean(of(a, "overlap"))) for a in names},
        "overlaps": {
            key: {"mean": float(np.mean([one[key] for one in found])), "low": min(one[key] for one in found),
                  "high": max(one[key] for one in found)}
            for key in found[0]
        },
    }  # fmt: skip


def _tuned(cells: Cells, rates: Sequence[float], done: list[str], name: str, arm: str) -> float:
    """The learning rate with the best mean over the other tasks."""
    others = [t for t in done if t != name] or [name]
    return min(rates, key=lambda r: float(np.mean([cells[f"{t}|{r:g}|{arm}"]["area"] for t in others])))


def _against(arm: str, tasks: list[str], area: Callable[[str, str], float]) -> dict[str, Any]:
    """Mean area, and gain over static and random: by task, its mean with interval, its share of hindsight's."""
    found: dict[str, Any] = {"area": float(np.mean([area(t, arm) for t in tasks]))}
    for base in ("static", "random"):
        gain = {t: area(t, base) - area(t, arm) for t in tasks}
        most = {t: area(t, base) - area(t, "hindsight") for t in tasks}
        interval = mean_interval({(t, 0): g for t, g in gain.items()})
        found[f"over {base}"] = {
            "by task": gain, "mean": interval.mean, "low": interval.low, "high": interval.high,
            **_share(gain, most),
        }  # fmt: skip
    return found


def _share(gain: dict[str, float], most: dict[str, float]) -> dict[str, Any]:
    """Gain over hindsight's gain, of sums over tasks; None where hindsight gains nothing. Spread: a task left out."""

    def share(tasks: list[str]) -> float | None:
        total = sum(most[t] for t in tasks)
        return sum(gain[t] for t in tasks) / total if total > 0 else None

    left_out = [share([t for t in gain if t != out]) for out in gain] if len(gain) > 1 else []
    known = [value for value in left_out if value is not None]
    return {
        "share": share(list(gain)),
        "share_low": min(known, default=None),
        "share_high": max(known, default=None),
        "undefined": len(left_out) - len(known),
    }


def show(results: dict[str, Any]) -> None:
    summary = results["summary"]
    if not summary["tasks"]:
        return
    table = Table(
        "arm", "overlap", "log-loss area", "gain over static", "of hindsight's", "gain over random", "of hindsight's"
    )
    for name, found in summary["arms"].items():
        shared = summary["mask overlaps"].get(name)
        row = [name, "-" if shared is None else f"{shared:.3f}", f"{found['area']:.3f}"]
        for base in ("static", "random"):
            one = found[f"over {base}"]
            spread = "" if one["low"] is None else f" [{one['low']:+.3f}, {one['high']:+.3f}]"
            share = "-" if one["share"] is None else f"{one['share']:.2f}"
            row += [f"{one['mean']:+.3f}{spread}", share]
        table.add_row(*row)
    Console(width=160).print(table)
    table = Table("forecast", "overlap with hindsight", "least", "most")
    for name, one in summary["overlaps"].items():
        table.add_row(name, *(f"{one[key]:.3f}" for key in ("mean", "low", "high")))
    Console(width=160).print(table)
