"""The DeepSpeed side: a bank whose master values, optimizer state and base weights ZeRO 1, 2 or 3 has sharded, and its
AdamW by the kernel of DeepSpeedCPUAdam.

Three things hold a bank's values under ZeRO and all three are written at a re-mask: the fp32 master shard, the model's
own (perhaps bf16) parameter and the moments. Leaving one out raises nothing and trains something else.
"""

from __future__ import annotations

import functools
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import deepspeed
import torch
import torch.distributed as dist
from deepspeed.ops.adam import DeepSpeedCPUAdam
from deepspeed.runtime.zero.partition_parameters import ZeroParamStatus
from deepspeed.utils import (
    safe_get_full_fp32_param,
    safe_get_full_optimizer_state,
    safe_set_full_fp32_param,
    safe_set_full_optimizer_state,
)
from torch import Tensor, nn
from torch.utils.cpp_extension import get_default_build_root

from ..common.errors import ConfigError, RankError
from ..model.placement import Change, MomentOptimizer, Placement, T, bit_sum
from .optimizer import MOMENTS, BankAdamW

WAIT = 1800
"""Seconds that ranks wait for each other by default, as in transformers' `ddp_timeout`."""
_BUILD = 600
"""Seconds after which nothing can still be compiling a kernel."""
_log = logging.getLogger(__name__)


class ZeroPlacement(Placement):
    """Parameters that DeepSpeed holds; before its engine exists, those that `zero.Init` has sharded on loading.

    Args:
        timeout: seconds that ranks wait for each other where objects are gathered.
    """

    def __init__(
        self, model: nn.Module, engine: deepspeed.DeepSpeedEngine | None = None, timeout: float = WAIT
    ) -> None:
        self._engine, self._timeout = engine, timeout
        self.rank, self.world = dist.get_rank(), dist.get_world_size()
        self.sharded = any(hasattr(p, "ds_id") for p in model.parameters())

    def values(self, parameter: nn.Parameter) -> Tensor:
        if not _in_engine(parameter):
            return super().values(parameter)
        return safe_get_full_fp32_param(parameter).view(_shape(parameter))

    def change_values(self, parameter: nn.Parameter, change: Change) -> None:
        if not _in_engine(parameter):
            return super().change_values(parameter, change)
        new = change(self.values(parameter))
        if new.shape != _shape(parameter):
            raise ConfigError(
                f"a bank of {_shape(parameter)[0]} vectors cannot become one of {len(new)} under DeepSpeed, whose "
                "shards are fixed; use watch 'hold' or 'rotate' instead of 'full-keep' or 'full-rollback'"
            )
        safe_set_full_fp32_param(parameter, new)
        if hasattr(parameter, "ds_id"):
            # What this rank holds: its piece, and while it is in use or kept by its small size the whole as well.
            piece = parameter.ds_tensor
            piece.copy_(new.flatten()[self.rank * piece.numel() : (self.rank + 1) * piece.numel()])
            if parameter.ds_status == ZeroParamStatus.AVAILABLE:
                parameter.data.copy_(new)
        else:
            parameter.data.copy_(new)

    def state(self, parameter: nn.Parameter, optimizer: MomentOptimizer) -> Iterator[tuple[str, Tensor]]:
        if not optimizer.started:
            yield from super().state(parameter, optimizer)
            return
        for key in MOMENTS:
            yield key, safe_get_full_optimizer_state(parameter, key).view(_shape(parameter))

    def change_state(self, parameter: nn.Parameter, optimizer: MomentOptimizer, change: Change) -> None:
        if not optimizer.started:
            return super().change_state(parameter, optimizer, change)
        for key in MOMENTS:
            whole = safe_get_full_optimizer_state(parameter, key).view(_shape(parameter))
            safe_set_full_optimizer_state(parameter, change(whole), key)
            del whole  # before the next one is gathered

    @contextmanager
    def whole(self, parameter: nn.Parameter, write: bool = False) -> Iterator[Tensor]:
        sharded = hasattr(parameter, "ds_id")
        # Every rank writes the same values; rank 0's are the ones that are kept.
        with deepspeed.zero.GatheredParameters(parameter, modifier_rank=0 if write else None, enabled=sharded):
            yield parameter.data

    def gather(self, mine: T) -> list[T]:
        return gather(mine, self._timeout)

    def largest(self, mine: int) -> int:
        found = torch.tensor(mine)
        with _waiting(self._timeout):
            dist.all_reduce(found, dist.ReduceOp.MAX, _talk(self._timeout))
        return int(found)

    def sum_at(self, tensor: Tensor, owner: int) -> Tensor:
        tensor = tensor.contiguous()  # NCCL accepts nothing else
        dist.reduce(tensor, owner)
        return tensor

    def settle(self) -> None:
        # A backward that stops at activations leaves ZeRO 3 with weights it believes to be in use.
        if self._engine is not None and self.sharded:
            self._engine.optimizer.empty_partition_cache()

    def checksum(self, parameter: nn.Parameter, ordered: bool = True) -> int:
        if not hasattr(parameter, "ds_id"):
            return super().checksum(parameter, ordered)
        part = parameter.ds_tensor  # all are of one length; the last is padded with zeros
        return bit_sum(part, self.rank * part.numel() if ordered else None)

    def total(self, sums: Tensor) -> Tensor:
        # Gathered as an object, since NCCL does not reduce what is on the CPU.
        return torch.stack(self.gather(sums)).sum(0) if self.sharded else sums


class BankCPUAdam(BankAdamW):
    """`BankAdamW` in DeepSpeed's vectorised C++ (compiled at first use, in a minute): several times faster where
    the optimizer is offloaded to the CPU.

    DeepSpeedCPUAdam itself counts one step for a whole parameter, but its kernel takes the step as an argument. So the
    kernel is called once per stretch of consecutive rows of equal age.

    Raises:
        RuntimeError: the kernel cannot be compiled here (it needs a C++ compiler and ninja), or a parameter is not on
            the CPU; ConfigError: see `await_build`.
    """

    def __init__(self, vectors: nn.Parameter, lr: float, *settings: Any, **named: Any):
        super().__init__(vectors, lr, *settings, **named)
        await_build("cpu_adam")
        # Owns the compiled library's object and frees it; its own parameter list is never stepped.
        self._adam = DeepSpeedCPUAdam([nn.Parameter(torch.zeros(1))], adamw_mode=True)

    def _advance(self, p: Tensor, grad: Tensor, group: dict, mean: Tensor, square: Tensor) -> None:
        if p.device.type != "cpu":
            raise RuntimeError(f"the bank is on {p.device}; DeepSpeedCPUAdam needs offload_optimizer to the CPU")
        flat = [tensor.view(-1) for tensor in (p, grad, mean, square)]
        start, (beta1, beta2) = self._start_of(p), group["betas"]
        for low, high in pairwise(self._cuts(start, p.numel())):
            age = int(self.ages[min((start + low) // self.d_model, len(self.ages) - 1)])
            self._adam.ds_opt_adam.adam_update(
                self._adam.opt_id, age, group["lr"], beta1, beta2, group["eps"], group["weight_decay"], True,
                *(tensor[low:high] for tensor in flat),
            )  # fmt: skip

    def _cuts(self, start: int, n: int) -> list[int]:
        """Positions where the age changes among the n elements from `start` of the flattened bank, and 0 and n."""
        rows = (self.ages[1:] != self.ages[:-1]).nonzero().flatten().add_(1)
        inside = rows * self.d_model - start
        return [0, *inside[(inside > 0) & (inside < n)].tolist(), n]


def await_build(kernel: str) -> None:
    """Wait until no other process compiles a kernel; torch itself would wait for ever if that one was killed.

    Raises:
        ConfigError: its lock is too old for that; names the file to remove.
    """
    root = Path(os.environ.get("TORCH_EXTENSIONS_DIR") or get_default_build_root())
    locks = [*root.glob(f"{kernel}/lock"), *root.glob(f"*/{kernel}/lock")]
    if locks:
        _log.warning("%s: another process compiles this kernel; waiting for it", locks[0].parent)
    for lock in locks:
        while (age := _age(lock)) is not None:
            if age > _BUILD:
                raise ConfigError(
                    f"{lock} is {age / 60:.0f} minutes old: what was compiling there has been killed, and every run "
                    f"would wait for it. Make sure that nothing compiles, and remove the folder {lock.parent}"
                )
            time.sleep(0.5)


def _age(file: Path) -> float | None:
    """Seconds since a file was written, None if there is none."""
    try:
        return time.time() - file.stat().st_mtime
    except FileNotFoundError:
        return None


def gather(mine: T, timeout: float = WAIT) -> list[T]:
    """Collect an object (CPU tensors and plain Python) from every process of the group, by rank.

    Raises:
        RankError: a process has ended, or did not come within `timeout` seconds.
    """
    group, found = _talk(timeout), [mine] * dist.get_world_size()
    with _waiting(timeout):
        dist.monitored_barrier(group, timedelta(seconds=timeout), wait_all_ranks=True)  # which names who is missing
        dist.all_gather_object(found, mine, group)
    return found


@contextmanager
def _waiting(timeout: float) -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # gloo's: it timed out, or another process has ended
        raise RankError(
            f"rank {dist.get_rank()} waited for the other ranks in vain ({error}). The log of the missing one says "
            "why: it may have failed, run out of memory, or be waiting for a disk. Continue from the last checkpoint "
            f"with --resume; ddp_timeout, {timeout:g} seconds, is how long ranks wait for each other"
        ) from error


@functools.cache
def _talk(timeout: float) -> dist.ProcessGroup:
    """A group for objects on the CPU that can tell which rank is missing, as NCCL's cannot."""
    return dist.new_group(backend="gloo", timeout=timedelta(seconds=timeout))


def _in_engine(parameter: nn.Parameter) -> bool:
    return hasattr(parameter, "_hp_mapping") or hasattr(parameter, "_z3_optimizer")


def _shape(parameter: nn.Parameter) -> torch.Size:
    return getattr(parameter, "ds_shape", parameter.shape)
