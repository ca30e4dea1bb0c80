"""A masked run: what it trains, by which policy, and everything of it that outlives a step.

It knows no trainer. `MaskedTrainer` builds the loop around it, and what happens at step boundaries is in `remask.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from torch import nn
from transformers import PreTrainedTokenizerBase

from ..bank.optimizer import BankAdamW
from ..common.plugins import part
from ..forecasters import experienced
from ..forecasters.forecaster import Forecaster
from ..masks.budget import budget_over_time, budget_vectors
from ..masks.masks import Mask
from ..masks.schedule import MaskSchedule
from ..masks.selection import Limit, circuit_size, head_share_of
from ..model.placement import Placement
from ..policies.catalogue import make_policy
from ..policies.granularity import Granularity, granularity
from ..policies.policy import Ground, View
from ..policies.targets import Target
from ..scoring.probes import Probe, TextProbe
from ..scoring.scorer import BENEFIT, DAMAGE
from ..trajectory.trajectory import Trajectory
from .calendar import Calendar
from .config import ForesightConfig
from .scoring_budget import SPENT, Cadence, cadence, scoring_share, whole_probe

LENGTH = 1024
"""Tokens of a row where no setting tells, for what passes cost relative to one another."""


@dataclass(frozen=True)
class Retained:
    """Rows that a run is to keep.

    Attributes:
        rows: tokenized like the training rows, columns input_ids and labels.
        seconds: that the base model took to write them now; 0 for given rows, and for those found in the run's folder.
    """

    rows: Dataset
    seconds: float = 0.0


def scorer_name(grain: Granularity, target: Target, args: ForesightConfig, pairs: bool) -> str:
    """Name of the scores that a run takes; `pairs`: there are contrast pairs. Raises as `Granularity.scorer`."""
    if target.measures:
        return BENEFIT
    return grain.scorer(target.scorer or args.scorer, pairs)


class Run:
    """One run over one model, which gets its bank here.

    Args:
        model: a loaded Hugging Face causal LM; it is frozen.
        target: what components are ranked by.
        pairs: whether there are contrast pairs.
        forecaster: used instead of the one that the settings name.

    Attributes:
        granularity: the `Granularity`; table: components that scores and reports are about; numbers: what the bank
            can hold; bank: the bank; n_vectors: its rows; optimizer: the bank's, once there is one.
        policy, target: what chooses the mask, and by what; budget_schedule, limits: how large, at what cost, or None.
        scorer: name of the scores that the run takes.
        schedule: the masks so far; skill_log: forecasts and what became of them.
        watcher: the `Watcher`, which takes snapshots; None for runs that need none.
        probe: what gradients of single weights are taken on.
        retained: rows to keep, or None; scouting: the `Scouting` that a scout has taken, or None.
        calendar, step: when things happen, and optimizer steps done; set when training begins.
        fixed: what its checkpoints say of settings and data; resumed: the settings that changed, and at which step.
        learning_rates: sum of those so far: above zero, something in the mask must have moved.
        seconds, choosing: wall time, and what of it the policy took to decide (scoring of single weights and timed
            passes included).
        log: takes numbers to be logged now; autocast: the trainer's mixed-precision context.
    """

    def __init__(
        self,
        model: nn.Module,
        args: ForesightConfig,
        target: Target,
        pairs: bool = False,
        forecaster: Forecaster | None = None,
    ):
        if args.deepspeed:
            part("training.sharding.refuse_dtype")(model, args)
        self.model, self.args, self.target = model, args, target
        self.granularity = granularity(args.granularity)
        assert not isinstance(args.candidates, str)  # the settings were checked
        self.table, self.numbers = self.granularity.tables(model, args.mlp_block, args.candidates)
        self.policy = make_policy(args.policy, args.granularity, args.policy_params)
        self.limits = part("training.limits.StepLimits")(model, self.table, args) if args.limits else None
        self.scorer = scorer_name(self.granularity, target, args, pairs)
        self._prepare_policy(forecaster)
        self.budget_schedule = budget_over_time(args.budget_schedule)
        self._attach_bank()
        self.schedule = MaskSchedule()
        self.skill_log = part("trajectory.skill_log.SkillLog")(circuit_size(self.table, self.n_vectors))
        self.optimizer: BankAdamW
        self.calendar: Calendar
        self.step = 0
        self.learning_rates = self.seconds = self.choosing = 0.0
        self.watcher: Any = None
        self.probe: Probe | None = None
        self.retained: Retained | None = None
        self.scouting: Any = None
        self.fixed: dict[str, Any] = {}
        self.resumed: list[dict[str, Any]] = []
        self.log: Callable[[dict[str, float]], None] = lambda numbers: None
        self.autocast: Callable[[], AbstractContextManager[Any]] = nullcontext

    # -- building -----------------------------------------------------------------------------------------------------

    def _prepare_policy(self, forecaster: Forecaster | None) -> None:
        args, params = self.args, self.args.forecaster_params or {}
        assert not isinstance(params, str)  # the settings were checked
        ground = Ground(
            self.model, self.table, self.numbers, self.scorer, self.target,
            lambda: forecaster or experienced(args.forecaster, **params), args.gate,
        )  # fmt: skip
        self.ground = replace(ground, history=[ground.past(path) for path in args.history or []])
        self.policy.prepare(self.ground)

    def _attach_bank(self) -> None:
        """Give the model a bank of the budget's size; BudgetError if a later stage or a limit leaves no mask."""
        numbers, args = self.numbers, self.args
        n_vectors = numbers.available if args.policy == "full" else budget_vectors(numbers, args.budget)
        placement = Placement()
        if args.deepspeed:  # which takes seconds to import
            placement = part("bank.zero.ZeroPlacement")(self.model, timeout=args.ddp_timeout)
        self.n_vectors = placement.whole_vectors(n_vectors, numbers.d_model)
        self.bank = self.granularity.bank(self.model, numbers, self.n_vectors, placement)
        schedule = self.budget_schedule
        peak = self.n_vectors if schedule is None else schedule.mean_and_peak(numbers, args.budget)[1]
        if self.limits is not None:
            self.limits.check(peak)
        self.head_share(peak)

    def watch(self, rows: Dataset, pairs: Dataset | None, tokenizer: PreTrainedTokenizerBase) -> None:
        """Prepare what scores the model, where the policy or the settings ask for scores.

        Args:
            rows: prepared training rows; pairs: contrast pairs.

        Raises:
            ConfigError: the scorer needs contrast pairs and there are none; DataError: examples that cannot be used.
        """
        args, policy = self.args, self.policy
        if self.limits is not None:
            self.limits.rows = rows
        if self.granularity.name == "weights":
            if getattr(policy, "needs_probe", False):
                self.probe = TextProbe.from_dataset(rows, *whole_probe(args))
        elif policy.needs_scores or args.record or policy.scouts:
            self.watcher = part("training.watcher.watcher_of")(self, rows, pairs, tokenizer)

    # -- what a decision is made of -----------------------------------------------------------------------------------

    @property
    def mask_seed(self) -> int:
        return self.args.seed if self.args.mask_seed is None else self.args.mask_seed

    @property
    def cost_aware(self) -> float:
        """Share of a mask's score that may be given up for cheaper steps."""
        return (self.args.limits or {}).get("cost_aware", 0.0)  # type: ignore[union-attr]  # it was checked

    @property
    def mask_limits(self) -> tuple[Limit, ...]:
        """What every mask of the run has to keep, as far as it is known by now."""
        return () if self.limits is None else self.limits.of_masks()

    def vectors_at(self, step: int) -> int:
        """Rows of the bank after `step` steps, as the budget schedule has it."""
        if self.budget_schedule is None:
            return self.n_vectors
        return self.budget_schedule.vectors(self.numbers, self.args.budget, step, self.calendar.total_steps)

    def head_share(self, n_vectors: int) -> float | None:
        """The head share of masks of so many vectors, by the run's settings; None ranks all kinds together.

        ``prior`` is the share that the mask of policy `prior` has (ties broken by the run's mask seed).

        Raises:
            ConfigError: the prior knows nothing of a kind that the model has.
        """
        share = self.args.head_share
        if share != "prior":
            assert not isinstance(share, str)  # the settings were checked
            return share
        prior = make_policy("prior", "components")
        prior.prepare(self.ground)
        mask = prior.mask(View(self.table, n_vectors, 0, 1, seed=self.mask_seed))
        assert isinstance(mask, Mask)
        return head_share_of(mask, self.table)

    def cadence(self, total_steps: int) -> Cadence:
        """How often a run of so many steps scores and decides."""
        args, scorer = self.args, None if self.watcher is None else self.watcher.scorer
        costs = None if scorer is None else self.costs
        rows = args.per_device_train_batch_size * args.gradient_accumulation_steps * args.world_size
        return cadence(args, scorer, costs, self.n_vectors * self.numbers.d_model, total_steps, rows)

    @cached_property
    def costs(self) -> Any:
        """The `StepCosts` of the model."""
        return part("masks.costs.StepCosts")(self.model, self.table, self.args.max_length or LENGTH)

    def collects(self, step: int) -> bool:
        """Whether the step after `step` steps is one that scores are collected from."""
        along = None if self.watcher is None else self.watcher.along
        if along is None or step >= self.calendar.last_snapshot:
            return False
        assert isinstance(self.bank.mask, Mask)
        return step % along.steps_between(self.bank.mask, self.costs, SPENT * scoring_share(self.args)) == 0

    def ranking(self, snapshot: int) -> np.ndarray:
        """How the run's target ranks components at a snapshot, [n_components]."""
        assert self.watcher is not None
        return self.target.at(self.target.parts(self.watcher.series(), self.watcher.damage()), snapshot)

    def view(self, step: int) -> View:
        """What the policy may know after `step` steps."""
        args, n_vectors, rest = self.args, self.vectors_at(step), self.calendar.total_steps - step
        watcher = self.watcher if self.policy.needs_scores else None
        return self.granularity.view(
            self.bank,
            self.probe,
            table=self.table,
            n_vectors=n_vectors,
            step=step,
            total_steps=self.calendar.total_steps,
            series=None if watcher is None else watcher.series(),
            seed=self.mask_seed,
            horizon=args.horizon or min(self.calendar.cadence.remask_every or rest, rest),
            damage=None if watcher is None else watcher.damage(),
            head_share=self.head_share(n_vectors),
            cost_aware=self.cost_aware,
            limits=self.mask_limits,
        )

    # -- files --------------------------------------------------------------------------------------------------------

    @property
    def output(self) -> Path:
        return Path(self.args.output_dir)

    @property
    def model_name(self) -> str:
        return self.model.config._name_or_path

    @property
    def trajectory(self) -> Trajectory | None:
        """Snapshots of this run; None before training and for runs that take none."""
        return getattr(self.watcher, "trajectory", None)

    def base_info(self) -> dict[str, Any]:
        """What a delta has to say of the model that it changes, and the step it was made at."""
        base = self.bank.base
        dtype = str(base.dtype).removeprefix("torch.")
        return {"model": self.model_name, "base_hash": base.hash, "dtype": dtype, "step": self.step}

    def trajectory_info(self) -> dict[str, Any]:
        """What the head of the run's trajectory says of it."""
        args = self.args
        info: dict[str, Any] = {name: getattr(args, name) for name in ("policy", "seed", "learning_rate")}
        info["model"] = self.model_name
        if self.target.scorer_params:
            info["scorer_params"] = dict(self.target.scorer_params)
        if DAMAGE in self.target.measures:
            info |= {"retained_source": args.retained_source, "target_params": args.target_params}
        if self.scouting is not None:
            info["scouting"] = asdict(self.scouting)
        return info

    def save_schedule(self) -> None:
        """Write the masks so far to `output_dir/schedule.json`, which policy `replay` reads."""
        if self.args.should_save:
            self.schedule.write(self.output / "schedule.json", self.numbers, self.bank.mask)
