"""`foresight evidence`: are localized heads better to edit than random ones? Run, judged, then the report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import yaml

from ..report.evidence import write_evidence
from ..studies.evidence.settings import EvidenceConfig
from ..studies.evidence.study import run_study
from .compare import show
from .settings import changed, describe, parse


def show_settings() -> None:
    """Print all settings of a recipe for `evidence`."""
    print(describe(EvidenceConfig))


def run(out: str, recipe: str | None, flags: Sequence[str]) -> None:
    """Run or continue a study in the folder `out`, write its report there and open it where there is a display."""
    (config,) = parse(recipe, flags, (EvidenceConfig,))
    if chosen := changed(config):
        print(yaml.safe_dump(chosen, sort_keys=False))
    evidence = run_study(out, config)
    print("\n".join(evidence.sentences))
    show(write_evidence(Path(out)))
