"""Which settings may change when a run is resumed, and which may not.

A checkpoint keeps the settings it was written under and a digest of the training rows.
"""

from __future__ import annotations

import hashlib
import json
import logging
from typing import Any

import numpy as np
import torch
from torch.optim.lr_scheduler import LambdaLR

from ..common.errors import CheckpointError, ConfigError
from ..tasks.seen import sampled
from .config import ForesightConfig

_log = logging.getLogger(__name__)

APPLIED = frozenset(
    "learning_rate lr_scheduler_type lr_scheduler_kwargs warmup_steps max_grad_norm weight_decay max_steps "
    "num_train_epochs".split()
)
"""Settings that may change and matter: they hold from the checkpoint's step on, and are recorded."""
_FREE = frozenset(
    "output_dir disable_tqdm run_name project do_train do_eval do_predict local_rank deepspeed use_cpu tf32 debug "
    "per_device_train_batch_size gradient_accumulation_steps torch_compile torch_compile_backend torch_compile_mode "
    "gradient_checkpointing gradient_checkpointing_kwargs activation_checkpointing activation_checkpointing_kwargs "
    "activation_offloading torch_empty_cache_steps include_num_input_tokens_seen include_for_metrics report_to "
    "prediction_loss_only batch_eval_metrics metric_for_best_model greater_is_better label_names skip_memory_metrics "
    "restore_callback_states_from_checkpoint parallelism_config accelerator_config fsdp fsdp_config dataset_num_proc "
    "trust_remote_code model_init_kwargs enable_jit_checkpoint".split()
)
_FREE_PREFIXES = ("logging_", "log_", "eval_", "save_", "hub_", "push_", "trackio_", "dataloader_", "ddp_", "resume_",
                  "per_device_eval", "bf16_full_eval", "fp16_full_eval")  # fmt: skip
"""Settings that change nothing of what is learned. The batch of a step is compared as a whole: its parts may change."""
ROWS = 1_000
"""Training rows that the digest is of, evenly spaced, and their number."""


def fixed(args: ForesightConfig, rows: Any) -> dict[str, Any]:
    """What a checkpoint keeps: every setting that matters, the rows of a step and the digest of the data (JSON)."""
    given = {
        name: value
        for name, value in json.loads(json.dumps(args.to_dict(), default=str)).items()
        if name not in _FREE and not name.startswith(_FREE_PREFIXES)
    }
    batch = args.per_device_train_batch_size * args.gradient_accumulation_steps * args.world_size
    return {"settings": given, "rows of a step": batch, "training rows": digest(rows)}


def digest(rows: Any) -> str | None:
    """Digest of tokenized training rows; None for a stream."""
    if not hasattr(rows, "__len__"):
        return None
    found = hashlib.sha256(str(len(rows)).encode())
    for row in sampled(rows, ROWS):
        for name in sorted({"input_ids", "labels"} & set(row)):
            found.update(np.asarray(row[name], np.int64).tobytes())
    return found.hexdigest()[:16]


def changes(folder: Any, before: dict[str, Any], now: dict[str, Any]) -> dict[str, list[Any]]:
    """Setting -> its value before and now, of those that may change.

    Settings that another version of the libraries has, or had, are not compared.

    Raises:
        CheckpointError: another one has changed; the message shows both values.
    """
    old, new = ({**{k: v for k, v in one.items() if k != "settings"}, **one["settings"]} for one in (before, now))
    found = {name: [old[name], new[name]] for name in old if name in new and old[name] != new[name]}
    held = {name: pair for name, pair in found.items() if name not in APPLIED}
    if held:
        shown = "; ".join(f"{name} was {pair[0]!r:.60} and is {pair[1]!r:.60}" for name, pair in held.items())
        raise CheckpointError(
            f"{folder} belongs to a run with other settings: {shown}. Give those again, or begin another run; what may "
            f"change is {', '.join(sorted(APPLIED))}"
        )
    for name, (was, is_now) in found.items():
        _log.warning("%s: %s was %r and is %r from here on", folder, name, was, is_now)
    return found


def load_scheduler(
    scheduler: Any, optimizer: torch.optim.Optimizer, state: dict[str, Any], changed: dict[str, list[Any]]
) -> None:
    """Restore a scheduler from a checkpoint; where settings have changed, it follows the new ones from there.

    Args:
        changed: of `changes`. A rate that the policy scales stays scaled.

    Raises:
        ConfigError: they have changed, and the scheduler's rates depend on more than the step.
    """
    rates = [group["initial_lr"] for group in optimizer.param_groups]
    scheduler.load_state_dict(state)
    found = scheduler.get_last_lr()
    if changed:
        if not isinstance(scheduler, LambdaLR):
            raise ConfigError(
                f"the rates of scheduler {type(scheduler).__name__} depend on more than the step and cannot change; "
                "resume with the settings of before"
            )
        before, now = changed.get("learning_rate", (1.0, 1.0))
        scheduler.base_lrs = [rate * now / before for rate in scheduler.base_lrs] if before else rates
        pairs = zip(scheduler.base_lrs, scheduler.lr_lambdas, strict=True)
        found = scheduler._last_lr = [rate * share(scheduler.last_epoch) for rate, share in pairs]
    for group, rate in zip(optimizer.param_groups, found, strict=True):
        group["lr"] = rate  # a scheduler remembers the rate, but sets it at its next step only
