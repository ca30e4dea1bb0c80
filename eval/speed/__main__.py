"""Measure speed and memory side by side; see `eval.speed`.

python -m eval.speed --quick                                      # under two minutes
python -m eval.speed --json eval/results/speed/results.json --plots eval/results/speed
"""

from __future__ import annotations

import argparse
import logging
import os
import warnings
from dataclasses import asdict
from pathlib import Path

import torch
from rich.console import Console

from foresight.common.errors import DataError
from foresight.common.files import write_json
from foresight.studies.provenance import environment

from .arms import GIVEN_UP, Place
from .clock import basis
from .measure import measure, read_eap_ig, with_eap_ig
from .peers import versions
from .plots import save_plots
from .report import tables
from .shapes import QUICK, Shape


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m eval.speed", description=__doc__.split("\n")[0])
    parser.add_argument(
        "--quick", action="store_true", help="a smaller model and less of everything, in under two minutes"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    parser.add_argument("--plots", type=Path, metavar="FOLDER", help="write figures as SVG and PNG there")
    parser.add_argument("--eap-ig", type=Path, metavar="FILE", help="figures of `python -m eval.speed.eap_ig`")
    parser.add_argument("--device", default="cpu", help="where to train and score, such as cuda")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32", help="of the frozen weights")
    parser.add_argument("--threads", type=int, default=1, help="of torch on the CPU")
    parser.add_argument(
        "--rounds", type=int, help="times everything is measured, train steps twice as often; 3 with --quick, else 5"
    )
    parser.add_argument("--note", default="", help="a remark on the machine, written into the JSON")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    shape = QUICK if args.quick else Shape()
    try:
        eap_ig = read_eap_ig(args.eap_ig, shape) if args.eap_ig else None
    except (OSError, DataError) as error:
        parser.error(str(error))
    place = Place(shape, args.device, getattr(torch, args.dtype))
    rounds = args.rounds or (3 if args.quick else 5)
    console = Console(width=110)
    result = measure(place, rounds, args.quick, lambda what: console.print(f"[dim]{what} ...[/dim]"))
    if eap_ig:
        result = with_eap_ig(result, eap_ig)
    clock = basis(args.device)
    settings = {
        "shape": asdict(shape), "rounds": rounds, "device": args.device, "dtype": args.dtype, "threads": args.threads,
        "cost_aware": GIVEN_UP, "ratios_of": f"{clock} time", "note": args.note,
        "cpu_seconds_in_all": sum(os.times()[:4]),
    }  # fmt: skip
    for table in tables(result, clock):
        console.print(table)
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        write_json(args.json, {"settings": settings, "environment": {**environment(), **versions()}, **result})
    if args.plots:
        save_plots(result, clock, args.plots)


if __name__ == "__main__":
    main()
