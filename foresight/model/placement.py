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

_STRETCH = 2**22
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

    def sum_at(self, tensor: Tensor, owner: int) -> Tensor:
        """Sum a tensor over processes. The result is valid on rank `owner` only; the tensor may be overwritten."""
        return tensor

    def settle(self) -> None:
        """Clean up after forward and backward passes outside the training loop."""

    def checksum(self, parameter: nn.Parameter) -> int:
        """Sum the bit patterns of this process's part of a weight: a single changed bit changes the sum."""
        return bit_sum(parameter.data)

    def total(self, sums: Tensor) -> Tensor:
        """Sum checksums, int64 [k], over processes. Sharding leaves the total unchanged, since padding is zero."""
        return sums


def bit_sum(weight: Tensor) -> int:
    """Sum bit patterns in stretches, because summing into 64 bits may first copy its input to 64 bits."""
    bits = weight.contiguous().view(_BITS.get(weight.dtype, torch.uint8)).flatten()
    return int(torch.stack([part.sum(dtype=torch.int64) for part in bits.split(_STRETCH)]).sum())
