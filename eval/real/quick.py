"""A slice of the proving ground, repeated: four arms on one task, each at the rate that the screen chose."""

from __future__ import annotations

from foresight.studies.runner import Runner

from .plan import TUNING, cell
from .report import records, table, tuned
from .run import Measures, identity

ARMS = ("random", "full", "lora8", "hindsight")
TASK = TUNING[0]


def repeat(runner: Runner) -> str:
    """Run them; a table of what was recorded and what was found now."""
    recorded = records()
    known, best = {identity(run.cell): run.measures for run in recorded}, tuned(recorded)
    cells = [cell(arm, TASK, best[arm][0].rate) for arm in ARMS if arm in best]
    rows = []
    for found in runner.run(cells, "quick"):
        rows += [
            [found.cell.arm, f"{found.cell.rate:g}", when, *_said(measures)]
            for when, measures in (("recorded", known[identity(found.cell)]), ("now", found.measures))
        ]
    return table(("arm", "rate", "", "loss", "exact", "KL text", "CPU s"), rows)


def _said(measures: Measures | None) -> list[str]:
    if measures is None:
        return ["diverged", "", "", ""]
    _, loss, exact = measures.curve[-1]
    return [f"{loss:.3f}", f"{exact:.2f}", f"{measures.kept['kl_text']:.2f}", f"{measures.cpu_seconds:.0f}"]
