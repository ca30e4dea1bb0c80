"""Work that takes turns, and what each took."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch


@dataclass
class Times:
    """Seconds of one piece of work, by round: CPU seconds of this process (all threads), and wall seconds."""

    cpu: list[float] = field(default_factory=list)
    wall: list[float] = field(default_factory=list)


def alternate(
    works: Mapping[Any, Callable[[], Any]], rounds: int, device: str = "cpu", warm_up: int = 1
) -> dict[Any, Times]:
    """Do every piece of work once a round, in an order that shifts by one from round to round.

    Args:
        warm_up: times each is done before any is timed.
        device: where the work is done; it is waited for before a clock is read.
    """
    names, times = list(works), {name: Times() for name in works}
    for _ in range(warm_up):
        for name in names:
            works[name]()
    for at in range(rounds):
        shift = at % len(names)
        for name in (*names[shift:], *names[:shift]):
            wait(device)
            cpu, wall = time.process_time(), time.perf_counter()
            works[name]()
            wait(device)
            times[name].cpu.append(time.process_time() - cpu)
            times[name].wall.append(time.perf_counter() - wall)
    return times


def add_share(times: Times, first: Times, every: int) -> None:
    """Add to each round what the first time took on top of a usual one, if that comes again every so many times."""
    for mine, other in ((times.cpu, first.cpu), (times.wall, first.wall)):
        share = max(0.0, other[0] - float(np.median(mine))) / every
        mine[:] = [seconds + share for seconds in mine]


def wait(device: str) -> None:
    """Until the accelerator has done what it was told."""
    if device != "cpu":
        torch.accelerator.synchronize()


def basis(device: str) -> Literal["cpu", "wall"]:
    """Which of the two times figures are made of: CPU time where other work may share the processor."""
    return "cpu" if device == "cpu" else "wall"


def spread(values: list[float]) -> dict[str, float]:
    """Median and range."""
    return {"median": float(np.median(values)), "low": min(values), "high": max(values)}


def ratios(times: Times, base: Times) -> dict[str, Any]:
    """Of CPU and of wall time to that of `base` in the same round, and the seconds: medians with ranges."""
    return {
        "cpu": spread([a / b for a, b in zip(times.cpu, base.cpu, strict=True)]),
        "wall": spread([a / b for a, b in zip(times.wall, base.wall, strict=True)]),
        "cpu_seconds": spread(times.cpu),
        "wall_seconds": spread(times.wall),
    }


def exponent(sizes: list[float], costs: list[float]) -> float:
    """Slope of log cost over log size by least squares: 1 is linear."""
    return float(np.polyfit(np.log(sizes), np.log(costs), 1)[0])
