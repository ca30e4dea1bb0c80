"""`foresight compare` and `foresight demo`: arms, tasks, seeds and budgets, run and judged, then the report."""

from __future__ import annotations

import os
import sys
import webbrowser
from collections.abc import Sequence
from pathlib import Path

import yaml

from ..report.comparison import write_report
from ..studies.compare.settings import CompareConfig
from ..studies.compare.study import run_comparison
from .settings import changed


def run(out: str, config: CompareConfig, quick: bool) -> None:
    """Run or continue a comparison in the folder `out`, write its report there and open it where there is a display."""
    config = config.quick() if quick else config
    usual = changed(CompareConfig())  # what it fills in by itself
    if chosen := {name: value for name, value in changed(config).items() if usual.get(name) != value}:
        print(yaml.safe_dump(chosen, sort_keys=False))
    summary = run_comparison(out, config)
    print(summary.verdict.sentence)
    show(write_report([Path(out)], Path(out)))


def report(folders: Sequence[str], out: str | None) -> None:
    """Rebuild the report of finished comparisons from what their folders hold, several of equal settings as one."""
    places = [Path(folder) for folder in folders]
    show(write_report(places, Path(out) if out else places[0]))


def show(page: Path) -> None:
    """Say where a page is, and open it where there is a display."""
    print(f"report: {page.resolve()}")
    if sys.stdout.isatty() and (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY") or os.name == "nt"):
        webbrowser.open(page.resolve().as_uri())
