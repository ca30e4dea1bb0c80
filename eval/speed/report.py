"""The figures as tables."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rich.table import Table


def tables(result: dict[str, Any], clock: str) -> Iterator[Table]:
    """Train steps and memory; scoring; the rest. Ranges are of the `clock`, "cpu" or "wall"."""
    steps = _table("A train step, full fine-tuning = 1", "arm", "trained", "time", "range", "memory", "optimizer state")
    for name, found in result["train_step"].items():
        memory = result["memory"][name]
        steps.add_row(
            name, f"{found['trained_parameters']:,}", f"{found['over_full']:.2f}", _range(found[clock]),
            f"{memory['over_full']:.2f}", f"{memory['state'] / 1e6:.1f} MB",
        )  # fmt: skip
    yield steps
    passes = _table("A scoring pass, a plain forward and backward = 1", "scorer", "time", "range")
    for name, found in result["scoring"].items():
        passes.add_row(name, f"{found['over_train_step']:.2f}", _range(found[clock]))
    yield passes
    rest = _table("The rest of a run", "what", "figure")
    rest.add_row("re-mask, in train steps at 5 %", f"{result['remask']['over_train_step']:.2f}")
    rest.add_row("tracking at the default cadence, share of a run", f"{result['tracking']['share']:.1%}")
    rest.add_row("forecast of 100,000 components, seconds", f"{result['forecast']['seconds_100k']:.1f}")
    if (peak := result["scoring"]["attribution"].get("peak_over_training")) is not None:
        rest.add_row("memory of scoring, training at 5 % = 1", f"{peak:.2f}")
    for axis, law in result.get("growth", {}).items():
        rest.add_row(f"cost of a step over {axis}, exponent", f"{law['exponent']:.2f}")
    yield rest


def _range(ratio: dict[str, float]) -> str:
    return f"{ratio['low']:.2f} to {ratio['high']:.2f}"


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left")
    for column in columns:
        table.add_column(column, justify="left" if column in ("arm", "scorer", "what") else "right")
    return table
