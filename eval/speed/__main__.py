"""Measure speed and memory side by side; see `eval.speed`.

python -m eval.speed --quick                                      # under two minutes on an idle machine
python -m eval.speed --json eval/results/speed/results.json
"""

from __future__ import annotations

import argparse
import logging
import warnings
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from foresight.comparison.results import environment
from foresight.files import write_json

from . import growth, running
from .arms import ARMS, GIVEN_UP, Place
from .clock import alternate, basis, ratios
from .peaks import allocated_by, peak_of
from .report import tables
from .scoring import FAST, PLAIN, passes
from .shapes import Shape

NOT_RUN = {
    "train_step.galore": "galore-torch needs bitsandbytes, which is no dependency of foresight; there is no arm for it",
    "train_step.badam": "badam is no dependency of foresight; there is no arm for it",
    "scoring.eap_ig": "EAP-IG is not on PyPI, and runs on TransformerLens's model class instead of this one",
    "scoring.exact": "it runs the model once a component: no run takes it at a cadence",
    "remask.zero": "a re-mask under ZeRO 2 and 3 needs a group of processes",
}
"""What one could want to see here and will not, and why."""


def measure(place: Place, rounds: int, quick: bool, say: Any) -> dict[str, Any]:
    """Everything, as it is written to JSON."""
    say("memory of a step")
    peaks = {name: peak_of(build, place) for name, build in ARMS.items()}  # first: forks must come before threads
    say("train steps")
    built = {name: build(place) for name, build in ARMS.items()}
    times = alternate({name: arm.step for name, arm in built.items()}, rounds, place.device)
    steps = {name: _over_full(ratios(times[name], times["full"]), place) for name in ARMS}
    lowest = {name: arm.lowest_layer for name, arm in built.items() if arm.bank is not None}
    trained = {name: sum(p.numel() for p in arm.trained) for name, arm in built.items()}
    del built
    say("scoring passes")
    works = passes(place, FAST)
    taken = alternate(works, rounds, place.device)
    scored = {name: _over(ratios(taken[name], taken[PLAIN]), place, "over_train_step") for name in FAST}
    if place.device == "cpu":
        # A run has the bank and its optimizer in memory while it scores.
        peak = peaks["bank_5pct"]["held"] + allocated_by(works["attribution"])
        scored["attribution"]["peak_over_training"] = peak / peaks["bank_5pct"]["peak"]
    del works
    say("re-mask, tracking, forecast")
    again, shares = running.remask(place, rounds), running.tracking(place, rounds)
    result = {
        "train_step": {name: {**steps[name], "trained_parameters": trained[name]} for name in ARMS},
        "memory": {name: {**peaks[name], "over_full": peaks[name]["peak"] / peaks["full"]["peak"]} for name in ARMS},
        "scoring": scored,
        "remask": _over(again["over_train_step"], place, "over_train_step")
        | {"over_full_step": _headline(again["over_full_step"], place)},
        "tracking": {**shares, "share": shares["share"]["median"], "share_range": shares["share"]},
        "lowest_trained_layer": lowest,
        "not_run": dict(NOT_RUN),
    }
    seconds = running.forecast(1 if quick else 3)
    result["forecast"] = {
        **seconds,
        "seconds_100k": seconds["seconds_100k"]["median"],
        "range": seconds["seconds_100k"],
    }
    if quick:
        result["not_run"]["growth"] = "left out by --quick"
    else:
        say("growth")
        result["growth"] = growth.growth(place, rounds)
    return result


def _headline(ratio: dict[str, Any], place: Place) -> float:
    """The median ratio, of CPU time on a CPU and of wall time elsewhere."""
    return ratio[basis(place.device)]["median"]


def _over(ratio: dict[str, Any], place: Place, key: str) -> dict[str, Any]:
    return {key: _headline(ratio, place), **ratio}


def _over_full(ratio: dict[str, Any], place: Place) -> dict[str, Any]:
    return _over(ratio, place, "over_full")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m eval.speed", description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="fewer tokens and rounds: under two idle minutes")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    parser.add_argument("--device", default="cpu", help="where to train and score, such as cuda")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32", help="of the frozen weights")
    parser.add_argument("--threads", type=int, default=1, help="of torch on the CPU")
    parser.add_argument("--rounds", type=int, help="times everything is measured; 3 with --quick, else 7")
    parser.add_argument("--note", default="", help="a remark on the machine, written into the JSON")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    shape = replace(Shape(), rows=4) if args.quick else Shape()
    place = Place(shape, args.device, getattr(torch, args.dtype))
    rounds = args.rounds or (3 if args.quick else 7)
    console = Console(width=110)
    result = measure(place, rounds, args.quick, lambda what: console.print(f"[dim]{what} ...[/dim]"))
    settings = {
        "shape": asdict(shape), "rounds": rounds, "device": args.device, "dtype": args.dtype, "threads": args.threads,
        "cost_aware": GIVEN_UP, "ratios_of": f"{basis(args.device)} time", "note": args.note,
    }  # fmt: skip
    for table in tables(result, basis(args.device)):
        console.print(table)
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        write_json(args.json, {"settings": settings, "environment": environment(), **result})


if __name__ == "__main__":
    main()
