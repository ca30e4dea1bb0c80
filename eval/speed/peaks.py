"""Memory of a train step: what torch allocates at the peak, what autograd keeps, and what the process grows to."""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.profiler import ProfilerActivity, profile

from .arms import Arm, Place

WARM_UP = 2


def peak_of(build: Callable[[Place], Arm], place: Place) -> dict[str, int]:
    """Bytes of an arm, in a process of its own on the CPU, so that its resident memory is its own, too.
    Torch must not have computed in this one with more than one thread before.

    `peak` is weights, optimizer state and the most that was allocated on top of them during a step; `held` is those
    alone (not on an accelerator), `state` the optimizer's; `saved` is what autograd keeps for the backward pass,
    parameters left out; `resident` is by how much the process has grown at its largest (not on an accelerator).
    """
    if place.device != "cpu":
        return _on_accelerator(build(place))
    context = multiprocessing.get_context(
        "fork"
    )  # libraries are loaded already: what the process grows by is the arm's
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_in_child, args=(build, place, sender))
    process.start()
    sender.close()
    try:
        return receiver.recv()
    except EOFError:
        raise RuntimeError("the process that measured an arm's memory has died; what it said is above") from None
    finally:
        process.join()


def _in_child(build: Callable[[Place], Arm], place: Place, sender: Connection) -> None:
    unit = 1 if sys.platform == "darwin" else 1024
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    arm = build(place)
    for _ in range(WARM_UP):
        arm.step()
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit - before
    state = state_bytes(arm)
    kept = nbytes([*arm.model.parameters(), *arm.model.buffers()]) + state
    found = {"peak": kept + allocated_by(arm.step), "held": kept, "state": state, "saved": saved_bytes(arm)}
    sender.send({**found, "resident": grown})


def _on_accelerator(arm: Arm) -> dict[str, int]:
    for _ in range(WARM_UP):
        arm.step()
    torch.accelerator.reset_peak_memory_stats()
    arm.step()
    peak = torch.accelerator.max_memory_allocated()
    return {"peak": peak, "saved": saved_bytes(arm), "state": state_bytes(arm)}


def nbytes(tensors: Iterable[Tensor]) -> int:
    """Of the distinct storages behind some tensors."""
    return sum({t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}.values())


def state_bytes(arm: Arm) -> int:
    """Of what the optimizer holds besides the model: all tensors that are reached from it."""
    own = {p.untyped_storage().data_ptr() for p in arm.model.parameters()}
    return nbytes(t for t in _tensors(arm.optimizer, set()) if t.untyped_storage().data_ptr() not in own)


def _tensors(value: Any, seen: set[int]) -> Iterator[Tensor]:
    """In a value, its elements and its attributes; functions, modules and classes are not entered."""
    if isinstance(value, Tensor):
        yield value
    if isinstance(value, Tensor | ModuleType) or callable(value) or id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, Mapping):
        parts: Iterable[Any] = value.values()
    else:
        parts = value if isinstance(value, list | tuple | set) else getattr(value, "__dict__", {}).values()
    for part in parts:
        yield from _tensors(part, seen)


def saved_bytes(arm: Arm) -> int:
    """Of the storages that autograd keeps between forward and backward, parameters and their views left out."""
    own = {p.untyped_storage().data_ptr() for p in arm.model.parameters()}
    kept: dict[int, Tensor] = {}

    def pack(tensor: Tensor) -> Tensor:
        detached = tensor.detach()
        for part in (detached._indices(), detached._values()) if tensor.is_sparse else (detached,):
            kept.setdefault(part.untyped_storage().data_ptr(), part)
        return tensor

    with saved_tensors_hooks(pack, lambda tensor: tensor):
        arm.forward_backward()
    arm.model.zero_grad()
    return nbytes(t for pointer, t in kept.items() if pointer not in own)


def allocated_by(work: Callable[[], Any]) -> int:
    """Most bytes that torch's CPU allocator gave out at any moment of `work`, above what was there when it began."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as prof:
        work()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{os.getpid()}.json"
        prof.export_chrome_trace(str(path))
        events = [e for e in json.loads(path.read_text())["traceEvents"] if e.get("name") == "[memory]"]
    first, *rest = (e["args"] for e in sorted(events, key=lambda e: e["ts"]))
    before = first["Total Allocated"] - first["Bytes"]
    return max(args["Total Allocated"] for args in (first, *rest)) - before
