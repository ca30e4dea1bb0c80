"""`foresight compare`, `demo`, `report` and `evidence`: a study is run and judged, then its report is shown."""

from __future__ import annotations

import os
import sys
import webbrowser
from collections.abc import Sequence
from pathlib import Path

from ..common.errors import NonFiniteError
from ..report.comparison import write_report
from ..report.evidence import write_evidence
from ..studies.compare.measures import grouped
from ..studies.compare.settings import CompareConfig
from ..studies.compare.study import run_comparison
from ..studies.evidence.settings import EvidenceConfig
from ..studies.evidence.study import run_study
from .settings import changed, show

SHOWN = 5
"""Causes of failures that are shown on the screen; the report has all of them."""


def run(out: str, config: CompareConfig, quick: bool) -> int:
    """Run or continue a comparison in the folder `out`, write its report there and open it where there is a display.

    Returns 1 if a run failed, after saying why, else 0; a rate of the tuning at which the loss diverged is no failure.
    """
    config = config.quick() if quick else config
    usual = changed(CompareConfig())  # what it fills in by itself
    show({name: value for name, value in changed(config).items() if usual.get(name) != value})
    summary = run_comparison(out, config)
    print(summary.verdict.sentence)
    open_page(write_report([out]))
    failed = {name: cause for name, cause in summary.failures if not cause.startswith(NonFiniteError.__name__)}
    failed |= {one.run: one.words for one in summary.broken if one.how == "failed"}
    if not failed:
        return 0
    print(f"foresight: {len(failed)} runs failed:", file=sys.stderr)
    causes = grouped((cause, name) for name, cause in failed.items())
    for cause, names in list(causes.items())[:SHOWN]:
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        print(f"  {names[0]}{more}: {cause}", file=sys.stderr)
    return 1


def report(folders: Sequence[str], out: str | None) -> None:
    """Rebuild the report of finished comparisons from what their folders hold, several of equal settings as one."""
    open_page(write_report(folders, out))


def evidence(out: str, config: EvidenceConfig) -> None:
    """Run or continue a study of evidence in the folder `out`, with its report there as well."""
    show(changed(config))
    found = run_study(out, config)
    print("\n".join(found.sentences))
    open_page(write_evidence(out))


def open_page(page: Path) -> None:
    """Say where a page is, and open it where there is a display."""
    print(f"report: {page.resolve()}")
    if sys.stdout.isatty() and (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY") or os.name == "nt"):
        webbrowser.open(page.resolve().as_uri())
