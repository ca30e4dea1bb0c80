"""Step time, memory and utilisation of a Llama of 8 B parameters (random weights, bf16) on one GPU.

    python -m eval.speed.gpu --json FILE
    python -m eval.speed.gpu --device cpu --tiny                      # the same code at a tiny size, as the tests do

Arms: full fine-tuning, LoRA of rank 8 on all Linears, and our mask at 5 %, spread and cost-aware. They are measured one
after the other, as they do not fit together; an arm that does not fit is recorded as out of memory. `--compile`
compiles the model. This has been run on a CPU at a tiny size only: no figure of it for a GPU is recorded yet.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from foresight.common.files import write_json
from foresight.studies.provenance import environment

from .arms import ARMS, Arm, Place
from .clock import wait
from .shapes import Shape

LLAMA_8B = Shape(
    layers=32, width=4096, mlp=14336, heads=32, kv_heads=8, vocabulary=128256, rows=4, length=1024
)  # fmt: skip
TINY = Shape(layers=2, width=64, mlp=96, heads=4, kv_heads=2, vocabulary=64, rows=2, length=16)
NAMES = ("full", "lora_r8", "bank_5pct", "bank_5pct_cost_aware")
WARM_UP = 3


def measure(build: Callable[[Place], Arm], place: Place, steps: int, compiled: bool, peak_flops: float) -> dict:
    """Seconds of a step, bytes at the peak, tokens a second, and the share of `peak_flops` that the step's work is.

    The work is 6 floating-point operations a parameter and token for every arm: what full fine-tuning needs, so that
    utilisation ranks arms by speed; an arm with less to compute can exceed what the device does.
    """
    arm = build(place)
    if compiled:
        arm.model.compile()
    for _ in range(WARM_UP):
        arm.step()
    wait(place.device)
    if place.device != "cpu":
        torch.accelerator.reset_peak_memory_stats()
    seconds = []
    for _ in range(steps):
        began = time.perf_counter()
        arm.step()
        wait(place.device)
        seconds.append(time.perf_counter() - began)
    median, parameters = statistics.median(seconds), sum(p.numel() for p in arm.model.parameters())
    return {
        "seconds": median,
        "range": [min(seconds), max(seconds)],
        "peak_bytes": torch.accelerator.max_memory_allocated() if place.device != "cpu" else None,
        "tokens_per_second": place.shape.tokens / median,
        "trained_parameters": sum(p.numel() for p in arm.trained),
        "utilisation": 6 * parameters * place.shape.tokens / median / peak_flops if peak_flops else None,
    }


def compare(place: Place, steps: int, compiled: bool = False, peak_flops: float = 0.0) -> dict[str, Any]:
    """`measure` of every arm; {"error": …} for one that the device has no memory for."""
    found: dict[str, Any] = {}
    for name in NAMES:
        try:
            found[name] = measure(ARMS[name], place, steps, compiled, peak_flops)
        except torch.OutOfMemoryError:
            found[name] = {"error": "out of memory"}
        gc.collect()
        if place.device != "cpu":
            torch.accelerator.empty_cache()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m eval.speed.gpu", description=__doc__.split("\n")[0])
    parser.add_argument("--device", default="cuda", help="where to train")
    parser.add_argument("--tiny", action="store_true", help="a tiny model, to try the script")
    parser.add_argument("--rows", type=int, help="rows of a batch")
    parser.add_argument("--length", type=int, help="tokens of a row")
    parser.add_argument("--steps", type=int, default=10, help="steps that are timed")
    parser.add_argument("--compile", action="store_true", help="compile the model")
    parser.add_argument("--peak-tflops", type=float, default=0, help="the device's dense bf16 peak, for utilisation")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    args = parser.parse_args()
    given = {name: value for name in ("rows", "length") if (value := getattr(args, name)) is not None}
    shape = replace(TINY if args.tiny else LLAMA_8B, **given)
    place = Place(shape, args.device, torch.bfloat16)
    found = compare(place, args.steps, args.compile, args.peak_tflops * 1e12)
    table = Table("arm", "seconds", "tokens/s", "peak GB", "utilisation")
    for name, one in found.items():
        if "error" in one:
            table.add_row(name, one["error"])
            continue
        peak = "" if one["peak_bytes"] is None else f"{one['peak_bytes'] / 1e9:.1f}"
        share = "" if one["utilisation"] is None else f"{one['utilisation']:.0%}"
        table.add_row(name, f"{one['seconds']:.3f}", f"{one['tokens_per_second']:,.0f}", peak, share)
    Console().print(table)
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        settings = {"shape": asdict(shape), "steps": args.steps, "compile": args.compile, "device": args.device}
        write_json(args.json, {"settings": settings, "environment": environment(), "arms": found})


if __name__ == "__main__":
    main()
