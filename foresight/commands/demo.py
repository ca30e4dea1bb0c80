"""`foresight demo`: the comparison on the shipped model, then its report."""

from __future__ import annotations

import os
import sys
import webbrowser
from collections.abc import Sequence
from pathlib import Path

from ..comparison.demo import DemoConfig, run_demo
from ..report import write_report
from .settings import describe, parse


def show_settings() -> None:
    """Print all settings of a recipe for `demo`."""
    print(describe(DemoConfig))


def run(out: str, recipe: str | None, flags: Sequence[str], quick: bool) -> None:
    """Run or continue the demo in the folder `out`, write its report there and open it where there is a display."""
    (config,) = parse(recipe, flags, (DemoConfig,))
    summary = run_demo(out, config.quick() if quick else config)
    page = write_report(Path(out))
    print(summary.verdict.sentence)
    print(f"report: {page.resolve()}")
    if sys.stdout.isatty() and (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY") or os.name == "nt"):
        webbrowser.open(page.resolve().as_uri())
