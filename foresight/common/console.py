"""The screen: tables that stay whole in a file or a pipe, the progress bar of long work, and readable sizes."""

from __future__ import annotations

import sys

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


def console() -> Console:
    return Console(width=None if sys.stdout.isatty() else 120, highlight=False)


def progress_bar(console: Console | None = None, disable: bool = False) -> Progress:
    """A bar with one line per task: its description, how much is done, the time taken and the time left."""
    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn())
    return Progress(TextColumn("{task.description}"), *columns, console=console, disable=disable)


def size(count: float) -> str:
    """Bytes in a readable unit: 1536 -> '1.5 KiB'."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"
