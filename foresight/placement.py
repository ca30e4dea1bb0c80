"""Where a bank's values, its optimizer's state and the model's weights are: here, all of them, in one process.

`foresight.training.zero.ZeroPlacement` is the same for parameters that DeepSpeed shards. Every method that touches
parameters is collective there: all ranks call it, in the same order.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from .optimizer import BankAdamW

_BITS = {torch.float32: torch.int32, torch.bfloat16: torch.int16}

Change = Callable[[Tensor], Tensor]
"""Of a full tensor, its replacement of the same shape."""


class Placement:
    """One process holds everything."""

    rank = 0
    world = 1
    sharded = False
    """Whether the model's weights themselves are in pieces (ZeRO 3)."""

    def whole_vectors(self, n_vectors: int, d_model: int) -> int:
        """The largest number of vectors up to `n_vectors` that can be divided among the processes."""
        return n_vectors - n_vectors % (self.world // math.gcd(self.world, d_model))

    def values(self, parameter: nn.Parameter) -> Tensor:
        """The whole parameter in float32, not to be written to."""
        return parameter.detach().float()

    def change_values(self, parameter: nn.Parameter, change: Change) -> None:
        """Replace the parameter's values; here they may also get another number of rows."""
        parameter.grad = None
        parameter.data = change(parameter.data)

    def state(self, parameter: nn.Parameter, optimizer: BankAdamW) -> dict[str, Tensor]:
        """Moments of the whole parameter, float32; empty before a fresh run's first step."""
        return dict(optimizer.state[parameter]) if optimizer.started else dict(optimizer.pending)

    def change_state(self, parameter: nn.Parameter, optimizer: BankAdamW, change: Change) -> None:
        """Replace the moments, one at a time."""
        held = optimizer.state[parameter] if optimizer.started else optimizer.pending
        for key in list(held):
            held[key] = change(held[key])

    @contextmanager
    def whole(self, parameter: nn.Parameter, write: bool = False) -> Iterator[Tensor]:
        """The whole stored weight while the context lasts; with `write`, changes made to it are kept."""
        yield parameter.data

    def gather(self, mine: list[Tensor]) -> list[list[Tensor]]:
        """Every process's list of CPU tensors, by rank."""
        return [mine]

    def settle(self) -> None:
        """To be called after forwards and backwards outside of the training loop."""

    def checksum(self, parameter: nn.Parameter) -> int:
        """Sum of the bit patterns of what this process holds of a weight: any one changed bit changes it."""
        return bit_sum(parameter.data)

    def total(self, sums: Tensor) -> Tensor:
        """Sum over processes of int64 [k]; sharding does not change it, as padding is zeros."""
        return sums


def bit_sum(weight: Tensor) -> int:
    """Sum of bit patterns as a 64-bit integer."""
    return int(weight.contiguous().view(_BITS.get(weight.dtype, torch.uint8)).sum(dtype=torch.int64))
