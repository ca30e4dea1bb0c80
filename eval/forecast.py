"""Measure what a forecast costs: seconds and memory of fit and prediction, over components and snapshots.

    python -m eval.forecast --out eval/results/forecasters/growth.json
    python -m eval.forecast --long

Every case is a process of its own, with as many threads as it takes: the wall time of `fit` plus `predict` on a series
of so many components and snapshots, on which no forecaster abstains, and the peak of the process's memory, libraries
included. The default forecaster has the state that ships. Exponents are of time over components at the larger number
of snapshots, and over snapshots at the larger number of components: 1 is linear.

With `--long`: processor seconds, in this process, of every forecaster over few components and up to 2,000 snapshots,
and of the gate of policy `foresight` that judges the default one, at the shortest horizon and a longer one.
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from foresight.common.files import write_json
from foresight.forecasters import BUILT_IN, DEFAULT, experienced
from foresight.policies.gate import Gate
from foresight.policies.targets import make_target
from foresight.studies.provenance import environment
from foresight.trajectory.series import Series

COMPONENTS, SNAPSHOTS = (50_000, 100_000), (50, 100)
LONG_COMPONENTS, LONG = 300, (50, 100, 500, 2_000)
HORIZONS = (1, 50)
"""In snapshots, of the gate."""
REPEATS = 3
NAMES = (DEFAULT, "persistence", "smoothing", "local_level", "damped_drift", "ridge")


def series(n: int, t: int) -> Series:
    """Trends under noise: no forecaster falls back to persistence, so that all do their whole work."""
    rng, i = np.random.default_rng(0), np.arange(n)
    trend = rng.normal(0, 0.02, (n, 1)) * np.minimum(np.arange(t), 100)
    logs = rng.normal(size=(n, 1)) + trend + 0.3 * rng.normal(size=(n, t))
    name = np.array([f"c{k}" for k in i])
    kind = np.where(i % 3 == 0, "head", "mlp")
    return Series(np.exp(logs), np.arange(t) * 10, i % 50, kind, i // 50, np.full(n, 4), name)


def measure(name: str, n: int, t: int) -> dict[str, float]:
    """Seconds and bytes of one fit and prediction, in this process; a small one before it loads what is needed."""
    seen = series(n, t)
    experienced(name).fit(series(100, 10)).predict(10)
    forecaster, began = experienced(name), time.perf_counter()
    forecaster.fit(seen).predict(50)
    seconds = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"seconds": seconds, "peak_bytes": peak, "abstained": forecaster.fallback_ is not None}


def run(names: tuple[str, ...] = NAMES) -> dict[str, dict]:
    """Medians of `REPEATS` processes a case: name -> seconds and peak by case, and exponents."""
    cases = [(name, n, t) for name in names for n in COMPONENTS for t in SNAPSHOTS]
    found: dict[tuple, list[dict]] = {case: [] for case in cases}
    for case in track(cases * REPEATS, description="measuring"):
        words = [sys.executable, "-m", "eval.forecast", "--case", *map(str, case)]
        found[case].append(json.loads(subprocess.run(words, capture_output=True, text=True, check=True).stdout))
    median = {case: {key: float(np.median([one[key] for one in ones])) for key in ones[0]}
              for case, ones in found.items()}  # fmt: skip
    few, many = COMPONENTS
    short, long = SNAPSHOTS

    def exponent(name: str, a: tuple[int, int], b: tuple[int, int]) -> float:
        return math.log2(median[name, *b]["seconds"] / median[name, *a]["seconds"])

    return {
        name: {
            "cases": [{"components": n, "snapshots": t, **median[name, n, t]} for n in COMPONENTS for t in SNAPSHOTS],
            "over_components": exponent(name, (few, long), (many, long)),
            "over_snapshots": exponent(name, (many, short), (many, long)),
        }
        for name in names
    }


def long() -> Table:
    """Processor seconds over up to 2,000 snapshots, of every forecaster and of the gate."""
    table = Table("seconds at snapshots:", *(f"{t:,}" for t in LONG))

    def timed(name: str, what: Callable[[Series], object]) -> None:
        what(series(LONG_COMPONENTS, 10))  # loads what is needed
        cells = []
        for t in LONG:
            seen, began = series(LONG_COMPONENTS, t), time.process_time()
            what(seen)
            cells.append(f"{time.process_time() - began:.2f}")
        table.add_row(name, *cells)

    for name in sorted(BUILT_IN):
        timed(name, lambda seen, name=name: experienced(name).fit(seen).predict(50))
    for horizon in HORIZONS:
        gate = Gate(experienced(DEFAULT), (), make_target("circuit"))
        timed(f"gate, {horizon} snapshots ahead", lambda seen, h=10 * horizon, gate=gate: gate.judge(seen, h, 30))
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", metavar="FILE", help="where to write the results as JSON")
    parser.add_argument("--long", action="store_true", help="time series of up to 2,000 snapshots, and the gate")
    parser.add_argument("--case", nargs=3, metavar=("NAME", "N", "T"), help="measure one case in this process")
    arguments = parser.parse_args()
    if arguments.case:
        name, n, t = arguments.case
        print(json.dumps(measure(name, int(n), int(t))))
        return
    if arguments.long:
        Console().print(long())
        return
    found = run()
    table = Table("forecaster", "components", "snapshots", "seconds", "MiB", "over components", "over snapshots")
    for name, result in found.items():
        for case in result["cases"]:
            last = case is result["cases"][-1]
            table.add_row(
                name, f"{case['components']:,}", str(case["snapshots"]), f"{case['seconds']:.2f}",
                f"{case['peak_bytes'] / 2**20:.0f}", f"{result['over_components']:.2f}" if last else "",
                f"{result['over_snapshots']:.2f}" if last else "",
            )  # fmt: skip
    Console().print(table)
    if arguments.out:
        write_json(arguments.out, {"default": DEFAULT, "environment": environment(), "forecasters": found})


if __name__ == "__main__":
    main()
