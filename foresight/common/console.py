"""The screen: tables that stay whole in a file or a pipe, and the progress bar of long work."""

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
