"""`foresight evidence`: are localized heads better to edit than random ones? Run, judged, then the report."""

from __future__ import annotations

from pathlib import Path

import yaml

from ..report.evidence import write_evidence
from ..studies.evidence.settings import EvidenceConfig
from ..studies.evidence.study import run_study
from .compare import show
from .settings import changed


def run(out: str, config: EvidenceConfig) -> None:
    """Run or continue a study in the folder `out`, write its report there and open it where there is a display."""
    if chosen := changed(config):
        print(yaml.safe_dump(chosen, sort_keys=False))
    evidence = run_study(out, config)
    print("\n".join(evidence.sentences))
    show(write_evidence(Path(out)))
