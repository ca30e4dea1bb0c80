"""The memory of one process of a run, part by part, on the device and on the host, from shapes alone.

States (weights, bank, master values, moments, ages, DeepSpeed's lasting buffers) are exact up to the padding of shards.
Phases are what a moment of a step needs on top; the largest one makes the peak. Their formulas are this project's own,
read off DeepSpeed's and this package's code for a bank that is one parameter, and checked against measured runs
(`eval/memory.py`); those of scoring are counted in `scoring_memory.py`. Left out: the framework's own memory, the
communication library's staging copies, kernels' workspaces, fragmentation, and logits of a step, which the trainer's
fused loss computes in pieces.

Symbols below: b = bank elements, s = those of a process's shard, e = bytes of an element the model computes with.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from ..common.errors import ConfigError

FP32 = 4
"""Bytes of a master value, of each of its two moments and of an age."""
STEP_WHOLE, STEP_SHARD = 8, 12
"""Bytes per element that `BankAdamW` works with: two fp32 temporaries for a whole bank; for a flat shard, a correction
by age is spread out to every element as well."""


@dataclass(frozen=True)
class Sharding:
    """How a run is spread over processes.

    Attributes:
        stage: 0 without DeepSpeed, or ZeRO's 1, 2 or 3.
        processes: that share the states; 1 without DeepSpeed.
        bf16: DeepSpeed casts the whole model, the bank included, and keeps fp32 master values.
        offload_optimizer: master values, moments and their gradients are on the host, and the step is taken there.
        offload_param: shards of weights and bank are on the host (ZeRO 3 only).
        bucket: elements of DeepSpeed's `reduce_bucket_size`; None: "auto", as in recipes/deepspeed, is d_model^2.
        live: elements of `stage3_max_live_parameters`, at least half of `stage3_max_reuse_distance`.

    Raises:
        ConfigError: an offload or a number of processes that the stage does not have.
    """

    stage: int = 0
    processes: int = 1
    bf16: bool = False
    offload_optimizer: bool = False
    offload_param: bool = False
    bucket: int | None = None
    live: int = 10**9

    def __post_init__(self) -> None:
        offloads = self.offload_optimizer or self.offload_param
        if self.stage not in (0, 1, 2, 3) or self.processes < 1:
            raise ConfigError(f"{self}: expected stage 0 to 3 and at least one process")
        if (self.stage == 0 and (self.processes > 1 or offloads)) or (self.stage < 3 and self.offload_param):
            raise ConfigError(f"{self}: several processes and offload need DeepSpeed, offload_param needs ZeRO 3")


@dataclass(frozen=True)
class Sizes:
    """The sizes that decide the memory of a run.

    Attributes:
        weights: elements of the frozen model; element: bytes of one as it is loaded.
        largest: elements of the largest weight; targets: those of all weights that a mask can touch.
        rows: vectors, or single weights, of the bank at its largest; d_model: elements of a vector.
        activations: bytes that autograd keeps for a training batch.
        ledger: bytes of the fp32 record of changed vectors at the end of the run.
        accumulates: whether a step takes several backward passes.
        matrix: elements of the largest weight that a mask can touch, if masks are of single weights; otherwise 0.
        scoring: bytes of each phase of scoring by name, on the device, the model and its bank left out.
        reference, sums: bytes on the host, of weights as they were and of gradients added up (see `ScoringSizes`).
    """

    weights: int
    element: int
    largest: int
    targets: int
    rows: int
    d_model: int
    activations: int
    ledger: int
    accumulates: bool
    matrix: int = 0
    scoring: Mapping[str, int] = field(default_factory=dict)
    reference: int = 0
    sums: int = 0

    @property
    def bank(self) -> int:
        """Elements of the bank."""
        return self.rows if self.matrix else self.rows * self.d_model

    @property
    def ids(self) -> int:
        """Bytes of the numbers of single weights, which are on the device and on the host."""
        return 8 * self.rows if self.matrix else 0


@dataclass(frozen=True)
class Parts:
    """Bytes by name: states last, phases come one after the other, on top of them."""

    states: Mapping[str, int]
    phases: Mapping[str, Mapping[str, int]]

    @property
    def peak(self) -> int:
        return sum(self.states.values()) + max((sum(parts.values()) for parts in self.phases.values()), default=0)


@dataclass(frozen=True)
class Memory:
    """What one process holds, on the device and on the host."""

    device: Parts
    host: Parts


def ways(processes: int, bf16: bool) -> dict[str, Sharding]:
    """The ways of sharding that a user chooses from, by name."""
    return {
        "no DeepSpeed, 1 process": Sharding(),
        "ZeRO 1": Sharding(1, processes, bf16),
        "ZeRO 2": Sharding(2, processes, bf16),
        "ZeRO 3": Sharding(3, processes, bf16),
        "ZeRO 3, optimizer offloaded": Sharding(3, processes, bf16, offload_optimizer=True),
        "ZeRO 3, optimizer and weights offloaded": Sharding(3, processes, bf16, True, True),
    }


def memory(sizes: Sizes, way: Sharding) -> Memory:
    """Predict the memory of one process.

    States are where their names say unless they are offloaded. Of those whose names do not say it all:
        fetched bank: what the forward splits and keeps until the next one. Without DeepSpeed a copy in the weights'
            dtype unless that is fp32; under ZeRO 3 gathered; else the bank itself.
        master: under DeepSpeed, also where the bank is fp32 itself. ages: one per vector, whole everywhere.
        gradient: what outlives a step. buckets: ZeRO 1 and 2 with offload keep staging buffers on both sides.
        ledger: on the host of every process. ids: of single weights, on the device and on the host.

    Phases:
        forward: activations; a gradient being accumulated; under ZeRO 3 the gathered weights; with single weights, of
            one matrix at a time the weight in effect, or its gradient and a copy of what is kept of it.
        reduction: the pieces of the bank's gradient and the whole made of them; then (without DeepSpeed) the fp32
            gradient, or (ZeRO 1 and 2) the bucket and the copy that the process keeps: of the whole bank, as it is one
            parameter that lies in every process's partition. ZeRO 2 therefore saves no gradient memory here.
        step: the gradient of what this process updates and the optimizer's temporaries.
        re-mask: one fp32 matrix of the bank's size; under ZeRO 3 also the largest weight.
        scoring, calibration: between steps, so no gradient of the bank is held, but weights are gathered as in forward.
            On the host: gradients added up, each process having its share of the weights.
    """
    if way.stage == 0:
        return _with_scoring(_alone(sizes), sizes, way)
    e = 2 if way.bf16 else sizes.element  # whatever was loaded
    bucket = e * (sizes.d_model**2 if way.bucket is None else way.bucket)
    return _with_scoring((_partitioned if way.stage < 3 else _sharded)(sizes, way, e, bucket), sizes, way)


def _with_scoring(found: Memory, sizes: Sizes, way: Sharding) -> Memory:
    device, host = found.device, found.host
    forward = {name: device.phases["forward"].get(name, 0) for name in ("matrices", "gathered weights")}
    phases = {name: {**forward, "scores": size} for name, size in sizes.scoring.items()}
    sums = {"scoring": {"sums": math.ceil(sizes.sums / way.processes)}} if sizes.sums else {}
    states = {**host.states, "reference": sizes.reference} if sizes.reference else host.states
    return Memory(Parts(device.states, {**device.phases, **phases}), Parts(states, {**host.phases, **sums}))


def _alone(sizes: Sizes) -> Memory:
    """Without DeepSpeed: nothing is sharded."""
    b, e = sizes.bank, sizes.element
    piece = FP32 if sizes.matrix else e
    states = {"frozen weights": e * sizes.weights, "bank": FP32 * b, "fetched bank": piece * b if piece < FP32 else 0}
    states |= {"moments": 2 * FP32 * b, "ages": FP32 * sizes.rows, "ids": sizes.ids}
    kept = FP32 * b if sizes.accumulates else 0
    phases = {
        "forward": {"activations": sizes.activations, "gradient": kept, "matrices": 2 * e * sizes.matrix},
        "reduction": {"gradient": kept + (piece + FP32) * b},
        "step": {"gradient": FP32 * b, "temporaries": STEP_WHOLE * b},
        "re-mask": {"gathered bank": FP32 * b},
    }
    return Memory(Parts(states, phases), Parts({"ledger": sizes.ledger, "ids": sizes.ids}, {}))


def _partitioned(sizes: Sizes, way: Sharding, e: int, bucket: int) -> Memory:
    """ZeRO 1 and 2: the optimizer's state is sharded, weights and bank are whole."""
    b = sizes.bank
    s = 2 * math.ceil(b / (2 * way.processes))  # DeepSpeed aligns partitions to two elements
    kept = e * b if sizes.accumulates else 0
    device = {"frozen weights": e * sizes.weights, "bank": e * b, "ages": FP32 * sizes.rows, "ids": sizes.ids}
    host = {"ledger": sizes.ledger, "ids": sizes.ids}
    optimizer = {"master": FP32 * s, "moments": 2 * FP32 * s}
    step = {"temporaries": STEP_SHARD * s}
    phases = {
        "forward": {"activations": sizes.activations, "gradient": kept, "matrices": 2 * e * sizes.matrix},
        "reduction": {"gradient": kept + (1 if e * b <= bucket else 2) * e * b, "buckets": bucket},
        "re-mask": {"gathered bank": FP32 * b},
    }
    if way.offload_optimizer:
        device |= {"buckets": e * b}
        host |= optimizer | {"gradient": FP32 * s + kept, "buckets": e * (b + s)}
        return Memory(Parts(device, phases), Parts(host, {"step": step}))
    phases["step"] = step | {"gradient": FP32 * s if e < FP32 else e * b}
    return Memory(Parts(device | optimizer, phases), Parts(host, {}))


def _sharded(sizes: Sizes, way: Sharding, e: int, bucket: int) -> Memory:
    """ZeRO 3: weights and bank are sharded as well, and gathered to be computed with."""
    b = sizes.bank
    s = math.ceil(b / way.processes)
    device = {"fetched bank": e * b, "ages": FP32 * sizes.rows, "buckets": bucket}
    host = {"ledger": sizes.ledger}
    weights = {"frozen weights": e * math.ceil(sizes.weights / way.processes), "bank": e * s}
    (host if way.offload_param else device).update(weights)
    optimizer = {"master": FP32 * s, "moments": 2 * FP32 * s}
    step = {"temporaries": STEP_SHARD * s}
    phases = {
        # ZeRO 3 fetches ahead and keeps what is used again soon, up to `live`; the weight needed next comes on top.
        "forward": {
            "activations": sizes.activations,
            "gathered weights": e * min(sizes.weights, way.live + sizes.largest),
        },
        "reduction": {"gradient": 2 * e * b},
        "re-mask": {"gathered bank": FP32 * b, "gathered weights": e * sizes.largest},
    }
    if way.offload_optimizer:
        host |= optimizer | {"gradient": (e + FP32) * s}
        return Memory(Parts(device, phases), Parts(host, {"step": step}))
    phases["step"] = step | {"gradient": FP32 * s if e < FP32 else 0}
    return Memory(Parts(device | optimizer | {"gradient": e * s}, phases), Parts(host, {}))


def remask_bytes(sizes: Sizes, way: Sharding) -> tuple[int, int]:
    """Bytes that a re-mask makes each process receive: (bank and its two moments, weights once over, at most).

    Zero without DeepSpeed or other processes. Weights are communicated under ZeRO 3 only, and only those that vectors
    leave or enter.
    """
    if way.processes == 1:
        return 0, 0
    e = 2 if way.bf16 else sizes.element
    return 3 * FP32 * sizes.bank, e * sizes.targets if way.stage == 3 else 0
