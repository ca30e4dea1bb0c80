"""Several processes: which ways of running them are sound, where parameters are, and that all ranks train one mask."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import torch.distributed as dist
from torch import nn

from ..errors import ConfigError, MaskLeakError
from ..masks import Mask
from ..placement import Placement

if TYPE_CHECKING:
    from .config import ForesightConfig


def placement_of(model: nn.Module, args: ForesightConfig, engine: Any = None) -> Placement:
    """Where the model's parameters are at this moment; `engine` is DeepSpeed's, once there is one."""
    if not args.deepspeed:
        return Placement()
    from .zero import ZeroPlacement  # deepspeed takes seconds to import, and is not installed everywhere

    return ZeroPlacement(model, engine)


def refuse_world(args: ForesightConfig) -> None:
    """Raise ConfigError for ways of running that are known to go wrong, before any work is done."""
    launched = int(os.environ.get("WORLD_SIZE", "1"))
    if launched != args.world_size:
        raise ConfigError(
            f"{launched} processes were launched, but each of them would train alone; with `accelerate launch` add "
            "--use_deepspeed (its --cpu does not start a process group)"
        )
    if not args.deepspeed:
        if args.world_size > 1:
            raise ConfigError(
                f"{args.world_size} processes without DeepSpeed: the bank is sharded by ZeRO 1, 2 or 3, not by DDP; "
                "add --deepspeed recipes/deepspeed/zero2.json"
            )
        return
    settings = args.hf_deepspeed_config
    stage = settings.get_value("zero_optimization.stage", 0)
    if stage not in (1, 2, 3):
        raise ConfigError(
            f"DeepSpeed with ZeRO stage {stage}: expected 1, 2 or 3 (stage 0 counts optimizer steps wrongly in bf16)"
        )
    for section in ("optimizer", "scheduler"):
        if settings.get_value(section) is not None:
            raise ConfigError(
                f"the DeepSpeed config has a section {section!r}, which would replace the bank's own; remove it and "
                "set learning_rate, lr_scheduler_type, adam_beta1/2 and weight_decay in the recipe"
            )
    if args.watch.startswith("full-") and args.policy == "foresight":
        raise ConfigError(f"watch {args.watch!r} would resize the bank, whose shards are fixed; use 'hold' or 'rotate'")


def agreed(mask: Mask, placement: Placement) -> Mask:
    """Rank 0's mask, after making sure that every rank came to the same one.

    Raises:
        MaskLeakError: a rank differs; names it and the components in question. All ranks stop.
    """
    if placement.world == 1:
        return mask
    found: list[Any] = [None] * placement.world
    dist.all_gather_object(found, mask.components)
    for rank, components in enumerate(found):
        if components != found[0]:
            differ = sorted(set(components) ^ set(found[0]))
            raise MaskLeakError(
                f"rank {rank} chose another mask than rank 0: they differ in components {differ}; the ranks have seen "
                "other scores or settings. All ranks stop, as their gradients would not belong together"
            )
    return Mask(tuple(found[0]))
