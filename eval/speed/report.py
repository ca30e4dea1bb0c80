"""The figures as tables."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rich.table import Table
from rich.text import Text


def tables(result: dict[str, Any], clock: str) -> Iterator[Table | Text]:
    """Train steps, scoring, the rest, growth, and what was not run. Ranges are of the `clock`, "cpu" or "wall"."""
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
    for stage in ("zero2", "zero3"):
        if stage in result["remask"]:
            over = result["remask"][stage]["over_train_step"]
            rest.add_row(f"re-mask under ZeRO {stage[-1]}, in its train steps", f"{over:.2f}")
    if (peak := result["scoring"]["attribution"].get("peak_over_training")) is not None:
        rest.add_row("memory of scoring, training at 5 % = 1", f"{peak:.2f}")
    yield rest
    if "growth" in result:
        laws = _table("How costs grow: exponents of power laws", "what", "over", "sizes", "exponent")
        for cost, axes in result["growth"].items():
            for axis, law in axes.items():
                laws.add_row(cost, axis, ", ".join(f"{size:,}" for size in law["sizes"]), f"{law['exponent']:.2f}")
        yield laws
    for key, why in result["not_run"].items():
        yield Text(f"not run: {key}: {why}", style="dim")


def _range(ratio: dict[str, float]) -> str:
    return f"{ratio['low']:.2f} to {ratio['high']:.2f}"


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left")
    for column in columns:
        table.add_column(column, justify="left" if column in ("arm", "scorer", "what", "over") else "right")
    return table
