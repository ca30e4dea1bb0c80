"""results.json and report.md: counts by kind and outcome, and everything that was not right with what reproduces it."""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from foresight.common.files import write_json
from foresight.studies.provenance import environment

from .case import OUTCOMES, Case, Verdict


def write(folder: Path, tried: Sequence[tuple[Case, Verdict]], seed: int, short: bool, seconds: float) -> str:
    """Write both files and return the report."""
    data = results(tried, seed, short, seconds)
    write_json(folder / "results.json", data)
    text = report(data)
    (folder / "report.md").write_text(text)
    return text


def results(tried: Sequence[tuple[Case, Verdict]], seed: int, short: bool, seconds: float) -> dict[str, Any]:
    """All of it as JSON."""
    kinds = list(dict.fromkeys(case.kind for case, _ in tried))
    counts = {kind: Counter(verdict.outcome for case, verdict in tried if case.kind == kind) for kind in kinds}
    not_right = [
        {
            "kind": case.kind, "case": case.name, "outcome": verdict.outcome, "did": verdict.did,
            "words": verdict.words, "commands": list(verdict.commands), "reproduce": again(case, short),
        }
        for case, verdict in tried if verdict.outcome != "right"
    ]  # fmt: skip
    return {
        "seed": seed,
        "short": short,
        "date": datetime.date.today().isoformat(),
        "seconds": round(seconds),
        "cpu_seconds": round(sum(verdict.cpu for _, verdict in tried)),
        "killed": sum(verdict.did.count("killed ") for _, verdict in tried),
        "environment": environment(),
        "counts": {kind: {outcome: found[outcome] for outcome in OUTCOMES} for kind, found in counts.items()},
        "not_right": not_right,
    }


def again(case: Case, short: bool) -> str:
    """The command that tries a case again, and leaves its folder."""
    form = " --short" if short else ""
    return f"python -m eval.faults --out DIR --seed {case.seed}{form} --kinds {case.kind} --only '{case.name}'"


def report(data: dict[str, Any]) -> str:
    """A table of the counts, and what was not right."""
    form = "The short form" if data["short"] else "The whole campaign"
    lines = [
        "# Faults",
        "",
        f"{form}, seed {data['seed']}, {data['date']}: {data['seconds']} seconds, {data['cpu_seconds']} on a core.",
        "`python -m eval.faults` writes this; what the outcomes mean is in [eval/README.md](../../README.md#faults).",
        "",
        f"| kind | cases | {' | '.join(OUTCOMES)} |",
        f"|---|{'---|' * (1 + len(OUTCOMES))}",
    ]
    total: Counter[str] = Counter()
    for kind, found in data["counts"].items():
        total.update(found)
        lines.append(_row(kind, found))
    lines += [_row("all", total), "", f"Processes that were killed: {data['killed']}.", ""]
    if not data["not_right"]:
        return "\n".join([*lines, "Everything was right.", ""])
    lines += ["## What was not right", ""]
    for one in data["not_right"]:
        lines.append(f"- **{one['outcome']}**, {one['kind']}: {one['case']}. {one['did']}. {_plain(one['words'])}")
    return "\n".join([*lines, ""])


def _row(name: str, found: Any) -> str:
    return f"| {name} | {sum(found.values())} | {' | '.join(str(found[outcome]) for outcome in OUTCOMES)} |"


def _plain(words: str) -> str:
    return "`" + " ".join(words.replace("`", "'").split())[:300] + "`"
