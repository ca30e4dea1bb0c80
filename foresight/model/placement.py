"""Where a bank's values, its optimizer's state and the model's weights are kept: here, all in one process.

`foresight.bank.zero.ZeroPlacement` does the same for parameters that DeepSpeed shards. There, every method that touches
parameters is collective: all ranks must call it, in the same order.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_STRETCH = 2**22
_WIDTH, _ODD = 1024, 0x9E3779B97F4A7C15 - 2**64
"""Columns of the grid in which bits are summed; an odd number that spreads over 64 bits."""
_BITS = {torch.float32: torch.int32, torch.bfloat16: torch.int16}

T = TypeVar("T")

Change = Callable[[Tensor], Tensor]
"""Returns the replacement of a full tensor, of the same shape; it may be the same tensor, changed in place."""


class MomentOptimizer(Protocol):
    """What a placement reads of an optimizer: `foresight.bank.optimizer.BankAdamW` has it."""

    state: Any
    """Moments by parameter and name, once the first step has been taken."""
    pending: dict[str, Tensor]
    """Moments by name that the first step starts from."""
    started: bool


class Placement:
    """One process holds everything."""

    rank = 0
    world = 1
    sharded = False
    """Whether the model's weights themselves are sharded (ZeRO 3)."""

    def whole_vectors(self, n_vectors: int, d_model: int) -> int:
        """The largest number of vectors, at most `n_vectors`, that can be divided evenly among the processes."""
        return n_vectors - n_vectors % (self.world // math.gcd(self.world, d_model))

    def values(self, parameter: nn.Parameter) -> Tensor:
        """Return the whole parameter in float32; it must not be written to."""
        return parameter.detach().float()

    def change_values(self, parameter: nn.Parameter, change: Change) -> None:
        """Replace the parameter's values. In a single process the number of rows may change."""
        parameter.grad = None
        parameter.data = change(parameter.data)

    def state(self, parameter: nn.Parameter, optimizer: MomentOptimizer) -> Iterator[tuple[str, Tensor]]:
        """Yield the moments of the whole parameter, float32, by name; a fresh run has none before its first step."""
        yield from (optimizer.state[parameter] if optimizer.started else optimizer.pending).items()

    def change_state(self, parameter: nn.Parameter, optimizer: MomentOptimizer, change: Change) -> None:
        """Replace the moments, one at a time."""
        held = optimizer.state[parameter] if optimizer.started else optimizer.pending
        for key in list(held):
            held[key] = change(held[key])

    @contextmanager
    def whole(self, parameter: nn.Parameter, write: bool = False) -> Iterator[Tensor]:
        """Open the whole stored weight; with `write`, changes made to it within the context are kept."""
        yield parameter.data

    def gather(self, mine: T) -> list[T]:
        """Collect an object (CPU tensors and plain Python) from every process, by rank."""
        return [mine]

    def largest(self, mine: int) -> int:
        """The largest of the processes' numbers; cheap enough for every step."""
        return mine

    def sum_at(self, tensor: Tensor, owner: int) -> Tensor:
        """Sum a tensor over processes. The result is valid on rank `owner` only; the tensor may be overwritten."""
        return tensor

    def settle(self) -> None:
        """Clean up after forward and backward passes outside the training loop."""

    def checksum(self, parameter: nn.Parameter, ordered: bool = True) -> int:
        """Sum the bit patterns of this process's part of a weight: a single changed bit changes the sum, and so does a
        change of order, unless the plain sum is asked for that versions before 0.2 used.
        """
        return bit_sum(parameter.data, 0 if ordered else None)

    def total(self, sums: Tensor) -> Tensor:
        """Sum checksums, int64 [k], over processes. Sharding leaves the total unchanged, since padding is zero."""
        return sums


def bit_sum(weight: Tensor, offset: int | None = 0) -> int:
    """Sum bit patterns, weighted by place: of a grid of `_WIDTH` columns the sums of rows and of columns are weighted.

    Modulo 2^64, so that the sums of shards add up to that of the whole. The weighting is our own.

    Args:
        offset: place of the first element in the whole weight; None for the plain sum.
    """
    bits = weight.contiguous().view(_BITS.get(weight.dtype, torch.uint8)).flatten()
    if offset is None:
        return int(torch.stack([part.sum(dtype=torch.int64) for part in bits.split(_STRETCH)]).sum())
    lead = offset % _WIDTH
    if lead or len(bits) % _WIDTH:
        bits = F.pad(bits, (lead, -(lead + len(bits)) % _WIDTH))
    total, first = torch.zeros((), dtype=torch.int64, device=bits.device), offset // _WIDTH
    columns = torch.zeros(_WIDTH, dtype=torch.int64, device=bits.device)
    for part in bits.view(-1, _WIDTH).split(_STRETCH // _WIDTH):  # summing into 64 bits may first copy to 64 bits
        places = torch.arange(first, first + len(part), device=bits.device)
        total += (part.sum(1, dtype=torch.int64) * (2 * places + 1) * _ODD).sum()
        columns += part.sum(0, dtype=torch.int64)
        first += len(part)
    return int(total + (columns * (2 * torch.arange(_WIDTH, device=bits.device) + 1)).sum())
