"""Several processes: which ways of running them are sound, and that all ranks train one mask."""

from __future__ import annotations

import hashlib
import os

import numpy as np
import torch
from torch import Tensor, nn

from ..bank import AnyBank
from ..bank.optimizer import BankAdamW
from ..common.errors import ConfigError, MaskLeakError
from ..common.plugins import part
from ..masks.budget import budget_over_time
from ..masks.masks import Mask, WeightMask
from ..model.placement import bit_sum
from ..policies.granularity import granularity
from .config import ForesightConfig

_UNTESTED = {
    "fp16.enabled": "loss scaling and masks are untested; use bf16 or fp32",
    "amp.enabled": "loss scaling and masks are untested; use bf16 or fp32",
    "torch_autocast.enabled": "it keeps other masters than ZeRO; use bf16 or fp32",
    "zero_optimization.offload_optimizer.super_offload": "it steps in pieces that the bank's AdamW does not know",
    "zero_optimization.zenflow": "it steps in pieces that the bank's AdamW does not know",
    "zero_optimization.zero_hpz_partition_size": "a second partition of the weights would not be told of a re-mask",
    "zero_optimization.mics_shard_size": "the bank is divided among all processes",
    "zero_optimization.zero_quantized_weights": "rounded weights would be folded into",
    "zero_optimization.zero_quantized_nontrainable_weights": "rounded weights would be folded into",
    "zero_optimization.zero_quantized_gradients": "rounded gradients are untested",
    "tensor_parallel.autotp_size": "components would be cut over processes",
    "sequence_parallel_size": "probes are not cut along their length",
}
"""Settings of a DeepSpeed config that shard or step in ways nothing here was tested with, and why they are refused."""


def optimizer_class(args: ForesightConfig) -> type[BankAdamW]:
    """The bank's AdamW under DeepSpeed, in DeepSpeedCPUAdam's form where DeepSpeed would insist on that: offloaded to
    the CPU, unless the config has ``"zero_force_ds_cpu_optimizer": false``.
    """
    settings = args.hf_deepspeed_config
    if not granularity(args.granularity).neighbours_share_age:  # the kernel takes one age at a time
        settings.config["zero_force_ds_cpu_optimizer"] = False
        return BankAdamW
    offloads = settings.get_value("zero_optimization.offload_optimizer.device", "none") == "cpu"
    if not offloads or not settings.get_value("zero_force_ds_cpu_optimizer", True):
        return BankAdamW
    # accelerate and DeepSpeed would put a DeepSpeedCPUAdam of their own, without ages, in the place of this one.
    settings.config["zero_force_ds_cpu_optimizer"] = False
    return part("bank.zero.BankCPUAdam")


def refuse_world(args: ForesightConfig) -> None:
    """Raise ConfigError for ways of running that are known to go wrong, before any work is done."""
    if (launched := int(os.environ.get("WORLD_SIZE", "1"))) != args.world_size:
        raise ConfigError(
            f"{launched} processes were launched, but each of them would train alone; with `accelerate launch` add "
            "--use_deepspeed (its --cpu does not start a process group)"
        )
    if getattr(args, "parallelism_config", None) is not None:
        raise ConfigError("parallelism_config (tensor, context or FSDP parallelism) is not supported; use ZeRO 1, 2, 3")
    if not args.deepspeed:
        if args.world_size > 1:
            raise ConfigError(
                f"{args.world_size} processes without DeepSpeed: the bank is sharded by ZeRO 1, 2 or 3, not by DDP or "
                "FSDP; add --deepspeed recipes/deepspeed/zero2.json"
            )
        return
    settings = args.hf_deepspeed_config
    if (stage := settings.get_value("zero_optimization.stage", 0)) not in (1, 2, 3):
        raise ConfigError(
            f"DeepSpeed with ZeRO stage {stage}: expected 1, 2 or 3 (stage 0 counts optimizer steps wrongly in bf16)"
        )
    if stage == 3 and granularity(args.granularity).needs_whole_weights:
        raise ConfigError(
            "granularity 'weights' under ZeRO stage 3: a Linear whose weight is in pieces cannot be put together entry "
            "by entry; use ZeRO 1 or 2 (recipes/deepspeed/zero2.json), or granularity 'components' or 'vectors'"
        )
    for section in ("optimizer", "scheduler"):
        if settings.get_value(section) is not None:
            raise ConfigError(
                f"the DeepSpeed config has a section {section!r}, which would replace the bank's own; remove it and "
                "set learning_rate, lr_scheduler_type, adam_beta1/2 and weight_decay in the recipe (with "
                "offload_optimizer the bank's AdamW runs on DeepSpeedCPUAdam's kernel)"
            )
    for name, why in _UNTESTED.items():
        value = settings.get_value(name)
        if value is True or value not in (None, False, 0, 1, -1, {}):
            raise ConfigError(f"the DeepSpeed config sets {name}, which is not supported: {why}; remove it")
    for offload in ("offload_optimizer", "offload_param"):
        device = settings.get_value(f"zero_optimization.{offload}.device", "none")
        if device not in ("none", "cpu"):
            raise ConfigError(
                f"the DeepSpeed config has {offload} to {device!r}, which is untested; use 'cpu' or 'none'"
            )
    if budget_over_time(args.budget_schedule) is not None:
        raise ConfigError("budget_schedule would resize the bank, whose shards are fixed under DeepSpeed; remove it")
    watch = str((args.policy_params or {}).get("watch", "hold"))  # type: ignore[union-attr]  # it was checked
    if watch.startswith("full-"):
        raise ConfigError(f"watch {watch!r} would resize the bank, whose shards are fixed; use 'hold' or 'rotate'")


def refuse_dtype(model: nn.Module, args: ForesightConfig) -> None:
    """Raise ConfigError if DeepSpeed would compute in another dtype than the frozen weights have."""
    dtype = next(p.dtype for p in model.parameters())
    if (dtype == torch.bfloat16) != bool(args.bf16):
        name = str(dtype).removeprefix("torch.")
        raise ConfigError(
            f"the model's weights are {name} and bf16 is {bool(args.bf16)}: under DeepSpeed both must agree, as it "
            "converts the frozen weights; set dtype: bfloat16 with bf16: true, or dtype: float32 with bf16: false"
        )


def agreed(mask: Mask | WeightMask, bank: AnyBank) -> Mask | WeightMask:
    """Rank 0's mask, after making sure that every rank came to the same one and holds the same run.

    Compared are hashes: of the next mask, of the vectors in force and of the ledger.

    Raises:
        MaskLeakError: a rank differs; names it and what differs, up to ten components. All ranks stop.
    """
    place, ledger = bank.placement, bank.ledger
    found = place.gather((mask.hash, _hash(bank.ids), (_hash(ledger.ids), bit_sum(ledger.values))))
    for rank, (chosen, ids, folded) in enumerate(found):
        if chosen != found[0][0]:
            masks = place.gather(mask.components)  # all ranks get here
            differ = np.setxor1d(masks[rank], masks[0]).tolist()
            more = f" and {len(differ) - 10} more" if len(differ) > 10 else ""
            raise MaskLeakError(
                f"rank {rank} chose another mask than rank 0: they differ in components {differ[:10]}{more}; the ranks "
                "have seen other scores or settings. All ranks stop, as their gradients would not belong together"
            )
        if (ids, folded) != found[0][1:]:
            what = "vectors in force" if ids != found[0][1] else "folded vectors (the ledger)"
            raise MaskLeakError(
                f"rank {rank} holds other {what} than rank 0, though their masks agree; all ranks stop. Resume from "
                "the last checkpoint, with the same foresight and the same settings on every node"
            )
    return mask


def _hash(ids: Tensor) -> str:
    return hashlib.sha256(ids.numpy()).hexdigest()
