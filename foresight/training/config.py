"""`ForesightConfig`: SFTConfig plus what a predictive mask needs."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from trl import SFTConfig

from ..common.errors import BudgetError, ConfigError, one_of
from ..forecasters.registry import DEFAULT
from ..forecasters.single_weights.movement import RULES
from ..forecasters.single_weights.sums import MEMORIES
from ..masks.budget_schedule import BudgetSchedule
from ..model.granularity import GRANULARITIES
from ..policies import POLICIES, policy_class
from ..policies.proxies import PROXIES
from ..policies.scouted import Scouted
from ..policies.single_weights.weights import WEIGHT_POLICIES, weight_policy_class
from ..policies.targets.registry import DEFAULT as CIRCUIT
from .limits import check_limits
from .ranking import check_target, checked_head_share

WATCH_MODES = ("hold", "rotate", "full-keep", "full-rollback")
MOMENTS = ("keep", "restart")
ENTRY_MOMENTS = ("fresh", "kept")
RETAINED_SOURCES = ("data", "base", *PROXIES)


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
    granularity: str = field(
        default="components",
        metadata={
            "help": "What a mask is made of. components: whole heads and MLP blocks; vectors: single rows and columns; "
            f"weights: single weights, with policies {', '.join(WEIGHT_POLICIES)}."
        },
    )
    policy: str = field(
        default="foresight",
        metadata={"help": f"Who chooses the mask: {', '.join(POLICIES)}."},
    )
    scorer: str = field(
        default="auto",
        metadata={
            "help": "What 'critical' means. auto: attribution if contrast pairs are given, else gradient_activation."
        },
    )
    target: str = field(
        default=CIRCUIT,
        metadata={
            "help": "What components are ranked by, and a forecast is of: circuit (the scores of `scorer` at the "
            "horizon), utility, damage, movement, a registered name, or module:Class. For policies static, reactive, "
            "foresight and oracle; with policy full and record, the trajectory has what the target needs."
        },
    )
    target_params: dict[str, Any] | str | None = field(
        default=None, metadata={"help": "Parameters of the target, as a mapping (JSON on the command line)."}
    )
    forecaster: str = field(
        default=DEFAULT, metadata={"help": "Forecaster of policy 'foresight': a registered name, or module:Class."}
    )
    gate: bool = field(
        default=True,
        metadata={
            "help": "Policy 'foresight': forecast only where earlier forecasts, in this run and in past ones, had more "
            "of the circuit than the best simple mask; otherwise hold that. false believes every forecast."
        },
    )
    forecaster_params: dict[str, Any] | str | None = field(
        default=None, metadata={"help": "Parameters of the forecaster, as a mapping (JSON on the command line)."}
    )
    head_share: float | str | None = field(
        default=None,
        metadata={
            "help": "Share of the budget's vectors that goes to heads (KV groups), for policies that rank components; "
            "by default all kinds are ranked in one list. A number in [0, 1]; prior: the share that the mask of policy "
            "'prior' has; trials: that of 0, 0.25, 0.5, 0.75, 1 which learns fastest in short trials before the run."
        },
    )
    in_place: bool = field(
        default=False,
        metadata={
            "help": "Train vectors inside the weights instead of beside them: a step takes a few per cent less at "
            "large budgets, for one more copy of the bank; results differ by rounding. For float32 weights, "
            "without DeepSpeed, torch_compile, and policies that shift weights."
        },
    )
    cost_aware: float = field(
        default=0.0,
        metadata={
            "help": "Share of a mask's score that may be given up for cheaper steps, in [0, 1), for policies that rank "
            "components: the mask is taken from the highest layers that keep the rest of the score, so that backward "
            "passes end early. 0 for the best mask whatever its cost."
        },
    )
    step_share: float | None = field(
        default=None,
        metadata={
            "help": "The most that a train step may take, as a share of full fine-tuning's operations in (0, 1], for "
            "policies that rank components: of the masks within it, the one with most score. Predicted from shapes, at "
            "full max_length, without the optimizer. None for no limit."
        },
    )
    step_seconds: float | None = field(
        default=None,
        metadata={
            "help": "The same in seconds of wall time: of an optimizer step's forward and backward passes, its "
            "accumulation included, on the slowest rank. Predicted from passes over training batches that are timed "
            "when the run begins; kept in checkpoints, but another run may time, and so choose, otherwise."
        },
    )
    step_gib: float | None = field(
        default=None,
        metadata={
            "help": "The same in GiB (2^30 bytes) of device memory: of a train step at its peak, in each process, "
            "predicted as `foresight plan` does. Scoring passes keep activations of all layers whatever the mask: "
            "lower probe_batch_size for them."
        },
    )
    trial_steps: int = field(
        default=10, metadata={"help": "Optimizer steps of each such trial, which is undone afterwards."}
    )
    mlp_block: int | None = field(
        default=None,
        metadata={"help": "Neurons per MLP block; by default about as many vectors as an attention head has."},
    )
    watch: str = field(
        default="hold",
        metadata={
            "help": "What is trained before the first forecast. hold: the step-0 mask (single weights: a random one); "
            "rotate: masks that take turns within the budget, probe_every steps each; full-keep / full-rollback: all "
            "components or weights, kept or undone afterwards (exceeds the budget's memory while it lasts)."
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
    restart_every: int = field(
        default=0,
        metadata={
            "help": "Restart the Adam moments of the whole mask every so many steps, whatever the policy; 0 for never."
        },
    )
    entry_moments: str = field(
        default="fresh",
        metadata={
            "help": "Adam moments of vectors that enter the mask. fresh: none; kept: those they had when they last "
            "left it, which takes optimizer memory beyond the budget (in host memory and checkpoints; logged)."
        },
    )
    budget_schedule: list[Any] | str | None = field(
        default=None,
        metadata={
            "help": "The budget over time. constant (default); front-loaded: thirds of the run with 2.1, 0.75 and 0.15 "
            "times the budget; grown: the same backwards; or stages [share of the run, relative size] such as "
            "[[0, 14], [0.5, 1]]. Its mean over the run is the budget."
        },
    )
    damage_weight: float = field(
        default=1.0,
        metadata={
            "help": "Policy or target 'damage': how much harm to retained skills weighs against benefit for the target."
        },
    )
    damage_forecaster: str | None = field(
        default=None,
        metadata={
            "help": "Policy 'damage': forecast benefit and damage over the rest of the run with this forecaster; by "
            "default they are taken as last measured."
        },
    )
    retained_source: str = field(
        default="data",
        metadata={
            "help": "What is to be kept, for policy 'damage' and replay. data: the retained dataset; base: text that "
            "the model writes before training, continuing prompts of the retained dataset if there is one. Damage is "
            "measured on the first probe_examples rows. For policy 'damage' without either, weaker stand-ins: "
            "activation, fisher, movement."
        },
    )
    retained_examples: int = field(
        default=256, metadata={"help": "Rows that the base model writes (retained_source: base)."}
    )
    retained_tokens: int = field(default=64, metadata={"help": "New tokens in such a row, at most."})
    replay_share: float = field(
        default=0.0,
        metadata={"help": "Share of the rows of every batch that are retained ones instead, with any policy."},
    )
    calibrate: bool = field(
        default=True,
        metadata={"help": "Calibrate heads against MLP blocks by exact patching once (contrast pairs only)."},
    )
    ema_decay: float = field(
        default=0.9,
        metadata={"help": "Policy 'ema': decay of the moving average of the scores, per snapshot, in [0, 1)."},
    )
    redraw: bool = field(default=False, metadata={"help": "Policy 'random': draw a new mask at every re-mask."})
    mask_seed: int | None = field(default=None, metadata={"help": "Seed of random masks; by default `seed`."})
    history: list[str] | None = field(
        default=None,
        metadata={"help": "Trajectory folders of past runs: what policy 'prior' and the forecaster learn from."},
    )
    oracle_trajectory: str | None = field(
        default=None,
        metadata={"help": "Policies 'oracle', 'oracle_ahead': trajectory folder of a recorded full run of this task."},
    )
    movement_from: str | None = field(
        default=None,
        metadata={
            "help": "Policy 'movement' over single weights: the output folder, or delta, of a run of this model; with "
            "that of a full run of the task, the mask is hindsight."
        },
    )
    outcomes: str | None = field(
        default=None,
        metadata={"help": "Policy 'value': what masks of past runs led to (see foresight.policies.targets.outcomes)."},
    )
    movement_rule: str = field(
        default="displacement",
        metadata={
            "help": "Policy 'foresight' over single weights: how far each will move, from what the watch has seen of "
            f"it. {', '.join(RULES)}, or the .json file of a regression on recorded runs."
        },
    )
    movement_memory: str = field(
        default="factored",
        metadata={
            "help": "How the watch keeps it. factored: sums of rows and columns, hardly any memory, and rules without "
            "signs only; low-precision: a byte a weight and statistic; dense: 4 bytes."
        },
    )
    mask_schedule: str | None = field(default=None, metadata={"help": "Policy 'replay': a saved schedule.json."})
    scout_share: float = field(
        default=0.01,
        metadata={
            "help": "Policies probing, predicted, displaced: share of the training rows that all components are "
            "trained on before the run, to see where the weights go (at least one optimizer step); undone afterwards."
        },
    )
    scout_learning_rate: float | None = field(
        default=None, metadata={"help": "Learning rate of those steps; by default a tenth of learning_rate."}
    )

    # TRL lists the fields that the command line may give as JSON.
    _VALID_DICT_FIELDS = [*SFTConfig._VALID_DICT_FIELDS, "forecaster_params", "target_params"]

    def __post_init__(self):
        if not torch.accelerator.is_available():
            self.use_cpu = True
            self.bf16: bool | None = bool(self.bf16)  # SFTConfig's default asks for a device that is not there
        super().__post_init__()
        if not 0 < self.budget <= 1:
            raise BudgetError(f"budget is {self.budget}; expected a share of all model parameters in (0, 1]")
        if not 0 < self.scout_share <= 1:
            raise ConfigError(f"scout_share is {self.scout_share}; expected a share of the training rows in (0, 1]")
        if self.scout_learning_rate is not None and not self.scout_learning_rate > 0:
            raise ConfigError(f"scout_learning_rate is {self.scout_learning_rate}; expected a number above 0")
        one_of("granularity", self.granularity, GRANULARITIES)
        if self.granularity == "weights":
            self._check_weights()
        check_target(self)
        self.head_share = checked_head_share(self)
        self._check_cost_aware()
        self._check_in_place()
        check_limits(self)
        one_of("watch", self.watch, WATCH_MODES)
        one_of("movement_memory", self.movement_memory, MEMORIES)
        one_of("moments", self.moments, MOMENTS)
        one_of("entry_moments", self.entry_moments, ENTRY_MOMENTS)
        one_of("retained_source", self.retained_source, RETAINED_SOURCES)
        if self.entry_moments == "kept" and self.moments == "restart":
            raise ConfigError("entry_moments 'kept' contradicts moments 'restart', which forgets them; choose one")
        if not (math.isfinite(self.damage_weight) and self.damage_weight >= 0):
            raise ConfigError(f"damage_weight is {self.damage_weight}; expected a number >= 0")
        if not 0 <= self.ema_decay < 1:
            raise ConfigError(f"ema_decay is {self.ema_decay}; expected a number in [0, 1), for example 0.9")
        if not 0 <= self.replay_share < 1:
            raise ConfigError(f"replay_share is {self.replay_share}; expected a share in [0, 1)")
        self._check_budget_schedule()
        for name in (
            "probe_every",
            "probe_examples",
            "probe_batch_size",
            "retained_examples",
            "retained_tokens",
            "trial_steps",
        ):
            _at_least(name, getattr(self, name), 1)
        for name in ("remask_every", "restart_every"):
            _at_least(name, getattr(self, name), 0)
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

    def _check_weights(self) -> None:
        weight_policy_class(self.policy)  # raises for the others
        if self.record:
            raise ConfigError("record is set, but single weights have no trajectory; remove it, or use 'components'")
        if self.mlp_block is not None:
            raise ConfigError(f"mlp_block is {self.mlp_block}, but single weights have no MLP blocks; remove it")
        if self.policy == "foresight" and not BudgetSchedule.of(self.budget_schedule).constant:
            raise ConfigError(
                "budget_schedule does not go with policy 'foresight' over single weights, which chooses once; remove it"
            )

    def _check_cost_aware(self) -> None:
        if not 0 <= self.cost_aware < 1:
            raise ConfigError(
                f"cost_aware is {self.cost_aware}; expected the share of the score that may be given up, in "
                "[0, 1), for example 0.1"
            )
        if self.cost_aware and (self.granularity == "weights" or not policy_class(self.policy).ranks):
            raise ConfigError(
                f"cost_aware is {self.cost_aware}, but policy {self.policy!r} over {self.granularity} ranks no "
                "components; remove it"
            )

    def _check_in_place(self) -> None:
        if not self.in_place:
            return
        if self.granularity == "weights" or issubclass(policy_class(self.policy), Scouted):
            raise ConfigError(
                f"in_place is set, but policy {self.policy!r} over {self.granularity} needs the frozen weights as they "
                "are; remove it"
            )
        for name in ("torch_compile", "deepspeed"):
            if getattr(self, name):
                raise ConfigError(f"in_place writes into the weights as a forward pass begins; remove it or {name}")

    def _check_budget_schedule(self) -> None:
        schedule = BudgetSchedule.of(self.budget_schedule)
        if schedule.constant:
            return
        if self.policy == "full":
            raise ConfigError("budget_schedule is set, but policy 'full' trains everything at all times; remove one")
        if self.policy == "foresight" and self.watch.startswith("full-"):
            raise ConfigError(f"budget_schedule does not go with watch {self.watch!r}; use 'hold' or 'rotate'")
        if self.budget * schedule.peak > 1:
            raise BudgetError(
                f"budget {self.budget} with this budget_schedule is {self.budget * schedule.peak:.4g} at its peak; "
                f"expected at most 1: lower the budget to {1 / schedule.peak:.4g} or less, or flatten the schedule"
            )


def _at_least(name: str, value: int, least: int) -> None:
    if value < least:
        raise ConfigError(f"{name} is {value}; expected at least {least}")
