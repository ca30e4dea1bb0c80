"""Adam's memory besides what a re-mask does to it: restarts at a cadence, moments kept for vectors that leave."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..bank.optimizer import MOMENTS, BankAdamW
from ..common.errors import CheckpointError
from ..masks.masks import Mask, WeightMask

if TYPE_CHECKING:
    from ..bank import Bank


def restart(bank: Bank, optimizer: BankAdamW) -> None:
    """Zero the moments and ages of the whole bank; its next step is a first one. Collective where it is sharded."""
    bank.placement.change_state(bank.vectors, optimizer, torch.zero_)
    optimizer.ages.zero_()


class KeptMoments:
    """Moments and ages of vectors that have left the mask, in host memory, for when they come back.

    This is optimizer memory beyond the budget: `2 * d_model + 1` fp32 numbers and an id for every vector that was once
    trained and is not now (up to all of the model's), and as much in every checkpoint. `nbytes` says how much, the
    trainer logs it. Vectors that enter for the first time start with fresh moments.

    Attributes:
        ids: int64 [k], sorted vector ids; ages: float32 [k]; moments: float32 [k, d_model] by key.
    """

    def __init__(self, d_model: int):
        self.ids = torch.zeros(0, dtype=torch.int64)
        self.ages = torch.zeros(0)
        self.moments = {key: torch.zeros(0, d_model) for key in MOMENTS}

    @property
    def nbytes(self) -> int:
        return sum(tensor.nbytes for tensor in (self.ids, self.ages, *self.moments.values()))

    def clear(self) -> None:
        """Forget everything."""
        self._select(torch.zeros(len(self.ids), dtype=torch.bool))

    def take(self, bank: Bank, optimizer: BankAdamW, mask: Mask | WeightMask) -> None:
        """Before a re-mask to `mask`: keep the moments of the vectors that it will drop."""
        new = torch.from_numpy(bank.table.vector_ids(mask.components))
        leaving = (~torch.isin(bank.ids, new)).nonzero().flatten()
        moments = {key: whole[leaving.to(whole.device)].float().cpu() for key, whole in _state(bank, optimizer)}
        if not moments or not len(leaving):
            return  # before a first step there is nothing to keep
        ids, order = torch.cat([self.ids, bank.ids[leaving]]).sort()
        self.ids = ids
        self.ages = torch.cat([self.ages, optimizer.ages.cpu()[leaving]])[order]
        self.moments = {key: torch.cat([self.moments[key], moments[key]])[order] for key in MOMENTS}

    def give(self, bank: Bank, optimizer: BankAdamW) -> int:
        """After a re-mask: give vectors that have come back their moments, and let go of them. Returns how many."""
        again = torch.isin(self.ids, bank.ids)
        if not again.any():
            return 0
        rows = torch.searchsorted(bank.ids, self.ids[again])
        keys = iter([key for key, _ in _state(bank, optimizer)])

        def change(whole: Tensor) -> Tensor:
            whole[rows.to(whole.device)] = self.moments[next(keys)][again].to(whole.device, whole.dtype)
            return whole

        bank.placement.change_state(bank.vectors, optimizer, change)
        optimizer.ages[rows.to(optimizer.ages.device)] = self.ages[again].to(optimizer.ages.device)
        self._select(~again)
        return len(rows)

    def tensors(self) -> dict[str, Tensor]:
        """What a checkpoint holds of it."""
        return {"ids": self.ids, "ages": self.ages, **self.moments}

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Inverse of `tensors`. Raises CheckpointError for anything else."""
        if set(tensors) != {"ids", "ages", *MOMENTS} or len({len(tensor) for tensor in tensors.values()}) != 1:
            raise CheckpointError(f"kept moments: entries {sorted(tensors)} are missing or differ in length")
        tensors = dict(tensors)
        self.ids, self.ages, self.moments = tensors.pop("ids"), tensors.pop("ages"), tensors

    def _select(self, which: Tensor) -> None:
        self.ids, self.ages = self.ids[which], self.ages[which]
        self.moments = {key: values[which] for key, values in self.moments.items()}


def _state(bank: Bank, optimizer: BankAdamW) -> Iterator[tuple[str, Tensor]]:
    return bank.placement.state(bank.vectors, optimizer)
