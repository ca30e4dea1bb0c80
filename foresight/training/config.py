"""`ForesightConfig`: SFTConfig plus what a predictive mask needs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from trl import SFTConfig

from ..errors import BudgetError, ConfigError, one_of

WATCH_MODES = ("hold", "rotate", "full-keep", "full-rollback")
MOMENTS = ("keep", "restart")


@dataclass
class ForesightConfig(SFTConfig):
    """Settings of a masked fine-tuning run; every SFTConfig field is valid as well.

    Steps are optimizer steps everywhere. Weight decay acts on the bank, so it pulls trained vectors towards the
    weights they had when training began (the bank holds differences), never towards zero and never outside the mask.

    Raises:
        ConfigError: a value outside its range; the message names field, value and what was expected.
    """

    budget: float = field(
        default=0.05,
        metadata={"help": "Trainable parameters as a share of ALL model parameters, embeddings and head included."},
    )
    policy: str = field(
        default="foresight",
        metadata={"help": "Who chooses the mask: full, static, random, prior, reactive, foresight, oracle, replay."},
    )
    scorer: str = field(
        default="auto",
        metadata={
            "help": "What 'critical' means. auto: attribution if contrast pairs are given, else gradient_activation."
        },
    )
    forecaster: str = field(
        default="ridge", metadata={"help": "Forecaster of policy 'foresight': a registered name, or module:Class."}
    )
    forecaster_params: dict[str, Any] | str | None = field(
        default=None, metadata={"help": "Parameters of the forecaster, as a mapping (JSON on the command line)."}
    )
    mlp_block: int | None = field(
        default=None,
        metadata={"help": "Neurons per MLP block; by default about as many vectors as an attention head has."},
    )
    watch: str = field(
        default="hold",
        metadata={
            "help": "What is trained before the first forecast. hold: the step-0 mask; rotate: masks that take turns "
            "within the budget; full-keep / full-rollback: all components, kept or undone afterwards (exceeds the "
            "budget's memory while it lasts)."
        },
    )
    watch_steps: int | None = field(
        default=None, metadata={"help": "Steps before the first forecast; by default a fifth of the run."}
    )
    probe_every: int = field(default=10, metadata={"help": "Steps between snapshots of the scores."})
    probe_examples: int = field(default=64, metadata={"help": "Contrast pairs or training examples in a probe."})
    probe_batch_size: int = field(default=16, metadata={"help": "Examples scored in one pass."})
    record: bool = field(
        default=False,
        metadata={"help": "Take every snapshot even if the policy does not need it, to have a trajectory of the run."},
    )
    remask_every: int = field(
        default=20, metadata={"help": "Steps between re-masks; 0 keeps the first mask (after the watch) for good."}
    )
    cutoff: int | None = field(
        default=None, metadata={"help": "Last step the forecaster may see; by default every snapshot so far."}
    )
    horizon: int | None = field(
        default=None, metadata={"help": "Steps ahead that are forecast; by default until the next re-mask."}
    )
    moments: str = field(
        default="keep",
        metadata={
            "help": "Adam moments of vectors that stay in the mask at a re-mask. keep: they stay; restart: the whole "
            "bank starts afresh, which makes re-masking and static masks comparable."
        },
    )
    calibrate: bool = field(
        default=True,
        metadata={"help": "Calibrate heads against MLP blocks by exact patching once (contrast pairs only)."},
    )
    redraw: bool = field(default=False, metadata={"help": "Policy 'random': draw a new mask at every re-mask."})
    mask_seed: int | None = field(default=None, metadata={"help": "Seed of random masks; by default `seed`."})
    history: list[str] | None = field(
        default=None,
        metadata={"help": "Trajectory folders of past runs: what policy 'prior' and the forecaster learn from."},
    )
    oracle_trajectory: str | None = field(
        default=None, metadata={"help": "Policy 'oracle': trajectory folder of a recorded full run of this task."}
    )
    mask_schedule: str | None = field(default=None, metadata={"help": "Policy 'replay': a saved schedule.json."})

    # TRL lists the fields that the command line may give as JSON.
    _VALID_DICT_FIELDS = [*SFTConfig._VALID_DICT_FIELDS, "forecaster_params"]

    def __post_init__(self):
        if not torch.accelerator.is_available():
            self.use_cpu = True
            self.bf16: bool | None = bool(self.bf16)  # SFTConfig's default asks for a device that is not there
        super().__post_init__()
        if not 0 < self.budget <= 1:
            raise BudgetError(f"budget is {self.budget}; expected a share of all model parameters in (0, 1]")
        one_of("watch", self.watch, WATCH_MODES)
        one_of("moments", self.moments, MOMENTS)
        for name in ("probe_every", "probe_examples", "probe_batch_size"):
            _at_least(name, getattr(self, name), 1)
        _at_least("remask_every", self.remask_every, 0)
        for name in ("watch_steps", "cutoff", "horizon", "mlp_block"):
            if getattr(self, name) is not None:
                _at_least(name, getattr(self, name), 1)
        settings = (self.gradient_checkpointing_kwargs, self.activation_checkpointing_kwargs)
        if any(given.get("use_reentrant") for given in settings if isinstance(given, dict)):
            raise ConfigError(
                "gradient checkpointing with use_reentrant=True fails with a shared bank; "
                "set gradient_checkpointing_kwargs to {'use_reentrant': False}"
            )
        if self.fp16:
            raise ConfigError("fp16=True is not supported (loss scaling and masks are untested); use bf16 or fp32")
        if self.fsdp:
            raise ConfigError("FSDP is not supported; use DeepSpeed, or one process")


def _at_least(name: str, value: int, least: int) -> None:
    if value < least:
        raise ConfigError(f"{name} is {value}; expected at least {least}")
