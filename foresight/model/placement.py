"""Where a bank's values, its optimizer's state and the model's weights are: here, all of them, in one process.

`foresight.bank.zero.ZeroPlacement` is the same for parameters that DeepSpeed shards. Every method that touches
parameters is collective there: all ranks call it, in the same order.
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
"""Of a full tensor, its replacement of the same shape; it may be the same tensor, changed in place."""


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

    def state(self, parameter: nn.Parameter, optimizer: MomentOptimizer) -> Iterator[tuple[str, Tensor]]:
        """Yield the moments of the whole parameter, float32, by name; none before a fresh run's first step."""
        yield from (optimizer.state[parameter] if optimizer.started else optimizer.pending).items()

    def change_state(self, parameter: nn.Parameter, optimizer: MomentOptimizer, change: Change) -> None:
        """Replace the moments, one at a time."""
        held = optimizer.state[parameter] if optimizer.started else optimizer.pending
        for key in list(held):
            held[key] = change(held[key])

    @contextmanager
    def whole(self, parameter: nn.Parameter, write: bool = False) -> Iterator[Tensor]:
        """The whole stored weight while the context lasts; with `write`, changes made to it are kept."""
        yield parameter.data

    def gather(self, mine: T) -> list[T]:
        """Every process's object (of CPU tensors and plain Python), by rank."""
        return [mine]

    def sum_at(self, tensor: Tensor, owner: int) -> Tensor:
        """Sum over processes, to be used on rank `owner` only; may overwrite the tensor."""
        return tensor

    def settle(self) -> None:
        """To be called after forwards and backwards outside of the training loop."""

    def checksum(self, parameter: nn.Parameter) -> int:
        """Sum of the bit patterns of what this process holds of a weight: any one changed bit changes it."""
        return bit_sum(parameter.data)

    def total(self, sums: Tensor) -> Tensor:
        """Sum over processes of int64 [k]; sharding does not change it, as padding is zeros."""
        return sums


def bit_sum(weight: Tensor) -> int:
    """Sum of bit patterns; in stretches, since a sum to 64 bits may begin with a copy in 64 bits."""
    bits = weight.contiguous().view(_BITS.get(weight.dtype, torch.uint8)).flatten()
    return int(torch.stack([part.sum(dtype=torch.int64) for part in bits.split(_STRETCH)]).sum())
