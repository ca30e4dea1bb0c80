"""The ledger of the proving ground: one line of JSON per finished run, small enough to be committed."""

from __future__ import annotations

import json
from pathlib import Path

from foresight.common.files import write_whole
from foresight.common.sealed import read_sealed, write_sealed
from foresight.studies.ledger import RESULT

LEDGER = Path(__file__).parents[1] / "results" / "real" / "ledger.jsonl"


def restore(runs: Path) -> None:
    """Write every recorded run into the folder of runs, unless it is there."""
    for record in read():
        path = runs / record["key"] / RESULT
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            write_sealed(path, record)


def save(runs: Path) -> None:
    """Add the finished runs of a folder to the ledger, in the order of arm, task, rate and seed."""
    known = {record["key"]: record for record in read()}
    for path in runs.glob(f"*/{RESULT}"):
        record = read_sealed(path)
        known[record["key"]] = record
    order = ("arm", "task", "rate", "seed", "draw", "steps", "budget", "earlier")
    records = sorted(known.values(), key=lambda record: [*(record["cell"][name] for name in order), record["key"]])
    LEDGER.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(record) + "\n" for record in records)
    write_whole(LEDGER, lambda temporary: Path(temporary).write_text(text))


def read() -> list[dict]:
    """The recorded runs."""
    return [json.loads(line) for line in LEDGER.read_text().splitlines()] if LEDGER.exists() else []
