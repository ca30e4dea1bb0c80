"""The DeepSpeed side: a bank whose master values, optimizer state and base weights ZeRO 1, 2 or 3 has sharded.

Three things hold a bank's values under ZeRO and all three are written at a re-mask: the fp32 master shard, the model's
own (perhaps bf16) parameter and the moments. Leaving one out raises nothing and trains something else.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import deepspeed
import torch
import torch.distributed as dist
from deepspeed.utils import (
    safe_get_full_fp32_param,
    safe_get_full_optimizer_state,
    safe_set_full_fp32_param,
    safe_set_full_optimizer_state,
)
from torch import Tensor, nn

from ..errors import ConfigError
from ..optimizer import MOMENTS, BankAdamW
from ..placement import Change, Placement, bit_sum


class ZeroPlacement(Placement):
    """Parameters that DeepSpeed holds; before the engine exists, those that `zero.Init` has sharded on loading."""

    def __init__(self) -> None:
        self.rank, self.world = dist.get_rank(), dist.get_world_size()

    def values(self, parameter: nn.Parameter) -> Tensor:
        if not _in_engine(parameter):
            return super().values(parameter)
        return safe_get_full_fp32_param(parameter).view(_shape(parameter))

    def change_values(self, parameter: nn.Parameter, change: Change) -> None:
        if not _in_engine(parameter):
            return super().change_values(parameter, change)
        old = self.values(parameter)
        new = change(old)
        if new.shape != old.shape:
            raise ConfigError(
                f"a bank of {len(old)} vectors cannot become one of {len(new)} under DeepSpeed, whose shards are "
                "fixed; use watch 'hold' or 'rotate' instead of 'full-keep' or 'full-rollback'"
            )
        safe_set_full_fp32_param(parameter, new)
        with self.whole(parameter, write=True) as stored:
            stored.copy_(new)

    def state(self, parameter: nn.Parameter, optimizer: BankAdamW) -> dict[str, Tensor]:
        if not optimizer.started:
            return super().state(parameter, optimizer)
        return {key: safe_get_full_optimizer_state(parameter, key).view(_shape(parameter)) for key in MOMENTS}

    def change_state(self, parameter: nn.Parameter, optimizer: BankAdamW, change: Change) -> None:
        if not optimizer.started:
            return super().change_state(parameter, optimizer, change)
        for key in MOMENTS:
            old = safe_get_full_optimizer_state(parameter, key).view(_shape(parameter))
            safe_set_full_optimizer_state(parameter, change(old), key)

    @contextmanager
    def whole(self, parameter: nn.Parameter, write: bool = False) -> Iterator[Tensor]:
        sharded = hasattr(parameter, "ds_id")
        # Every rank writes the same values; rank 0's are the ones that are kept.
        with deepspeed.zero.GatheredParameters(parameter, modifier_rank=0 if write else None, enabled=sharded):
            yield parameter.data

    def checksum(self, parameter: nn.Parameter) -> int:
        return bit_sum(parameter.ds_tensor) if hasattr(parameter, "ds_id") else bit_sum(parameter.data)

    def total(self, sums: Tensor) -> Tensor:
        if not self._sharded_weights:
            return sums
        sums = sums.clone()
        dist.all_reduce(sums)
        return sums

    _sharded_weights = False

    def note_sharding(self, model: nn.Module) -> None:
        """Look whether the model's weights themselves are sharded (ZeRO 3)."""
        self._sharded_weights = any(hasattr(p, "ds_id") for p in model.parameters())


def placement_of(model: nn.Module, args: Any) -> Placement:
    """Where the model's parameters are at this moment."""
    if not args.deepspeed:
        return Placement()
    placement = ZeroPlacement()
    placement.note_sharding(model)
    return placement


def agree(what: str, value: str) -> None:
    """Stop unless every rank has the same value.

    Raises:
        ConfigError: names each rank's value.
    """
    found: list[str] = [""] * dist.get_world_size()
    dist.all_gather_object(found, value)
    if len(set(found)) > 1:
        listed = "; ".join(f"rank {rank}: {text}" for rank, text in enumerate(found))
        raise ConfigError(f"the ranks disagree about {what} ({listed}); all of them stop")


def _in_engine(parameter: nn.Parameter) -> bool:
    return hasattr(parameter, "_hp_mapping") or hasattr(parameter, "_z3_optimizer")


def _shape(parameter: nn.Parameter) -> torch.Size:
    return getattr(parameter, "ds_shape", parameter.shape)
