"""`python -m eval.faults --out DIR`: try all faults and write what came of them; exit code 1 unless all was right."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from .campaign import campaign
from .kinds import KINDS
from .report import write

RESULTS = Path(__file__).parents[1] / "results" / "faults"


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m eval.faults", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder of the work; a rerun there goes on")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where results.json and report.md go")
    parser.add_argument("--seed", type=int, default=0, help="decides every moment and every change (default: 0)")
    parser.add_argument("--short", action="store_true", help="a few cases of each kind, in a minute")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS), help="only these (default: all)")
    only = "cases of these names, or whose name holds one of these; folders stay, no results are written"
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help=only)
    parser.add_argument("--workers", type=int, default=2, help="cases at a time (default: 2)")
    args = parser.parse_args(words)
    started = time.monotonic()
    tried = campaign(args.out, args.kinds, args.seed, args.short, args.workers, args.only)
    if not args.only:
        print(write(args.results, tried, args.seed, args.short, time.monotonic() - started))
    return int(any(verdict.outcome != "right" for _, verdict in tried))


if __name__ == "__main__":
    raise SystemExit(main())
