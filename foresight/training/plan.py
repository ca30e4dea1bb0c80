"""The plan of a run: what it will train, when, and what memory that takes, from the model's shapes alone.

All is exact except activations, an estimate (see `costs.py`). What memory it makes, sharded or not: see `memory.py`.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from torch import nn

from ..common.plugins import part
from ..masks.budget import budget_over_time, budget_vectors
from ..masks.costs import StepCosts
from ..model.components import features
from ..policies.catalogue import make_policy
from ..policies.granularity import granularity
from ..scoring import make_scorer
from ..scoring.scorer import Scorer
from .calendar import Calendar
from .config import ForesightConfig, target_of
from .memory import FP32, Sharding, Sizes, memory
from .run import LENGTH, scorer_name
from .scoring_budget import Cadence, cadence, whole_probe
from .scoring_memory import scoring_sizes


class Plan:
    """What a run of `model` will take, which may lie on the meta device: only shapes, dtypes and names are read.

    Args:
        pairs: whether there are contrast pairs to score on.

    Attributes:
        table: components; numbers: what the bank can hold, vectors or single weights.
        bank_vectors: rows of the bank (the budget), at their peak; mean_vectors: on average over the run, another
            number if the budget changes over time; watch_vectors: rows while watching or scouting, more with
            a watch of 'full-*' and for policies that scout.
        ledger_bytes: fp32 record of all changed vectors if every mask brings new ones; None if their number is unknown.
        calendar: when things happen, or None if the length of the run is unknown.
        sizes: what `memory.memory` needs to know; its ledger is 0 if `ledger_bytes` is None.
        costs: of a step by its mask; batch: bytes that a training batch keeps for each element that a token does.

    Raises:
        ArchitectureError: an unknown family; BudgetError: a budget that no mask can fill.
    """

    def __init__(self, model: nn.Module, args: ForesightConfig, calendar: Calendar | None, pairs: bool = False):
        grain = granularity(args.granularity)
        policy = make_policy(args.policy, args.granularity, args.policy_params)
        assert not isinstance(args.candidates, str)  # the settings were checked
        self.table, self.numbers = grain.tables(model, args.mlp_block, args.candidates)
        self.calendar = calendar
        everything, budgets = self.numbers.available, budget_over_time(args.budget_schedule)
        rows = everything if args.policy == "full" else budget_vectors(self.numbers, args.budget)
        mean = float(rows)
        if budgets is not None:
            mean, rows = budgets.mean_and_peak(self.numbers, args.budget)
        watches = calendar is None or calendar.first_decision > 0
        peak = everything if watches and policy.watch.startswith("full") else rows  # while it watches
        # A scout trains all components before the run; it is undone, so not in the ledger.
        self.watch_vectors = everything if policy.scouts == "bank" else peak
        self.bank_vectors, self.mean_vectors = rows, mean
        self.ledger_bytes: int | None = None
        if calendar is not None:
            changed = peak  # vectors that differ from the base at the end, if every mask brings only new ones
            if calendar.policy.remasks or calendar.resizes or calendar.rotates or args.policy == "replay":
                masks = sum(step == 0 or calendar.decides(step) or calendar.turns(step) for step in calendar.steps)
                changed = min(everything, peak + rows * (masks - 1))
            self.ledger_bytes = changed * (self.numbers.d_model * FP32 + 8)  # an id takes 8 bytes
        longest = getattr(model.config.get_text_config(), "max_position_embeddings", math.inf)
        length = int(min(args.max_length or math.inf, longest))
        element = next(model.parameters()).element_size()
        row = length * min(element, 2 if args.bf16 else FP32)
        self.costs = StepCosts(model, self.table, length, args.gradient_checkpointing)
        self.batch = args.per_device_train_batch_size * row
        scoring = scoring_sizes(model, args, pairs, min(whole_probe(args)), length)
        weights = [math.prod(features(model.get_submodule(t.module))) for t in self.numbers.targets]
        self.sizes = Sizes(
            weights=self.table.model_parameters,
            element=element,
            largest=max(getattr(p, "ds_numel", p.numel()) for p in model.parameters()),
            targets=sum(weights),
            rows=self.watch_vectors,
            d_model=self.table.d_model,
            activations=self.batch * self.costs.activations(np.arange(len(self.table))),
            ledger=self.ledger_bytes or 0,
            accumulates=args.gradient_accumulation_steps > 1,
            matrix=max(weights) if grain.needs_whole_weights else 0,
            scoring=scoring.phases,
            reference=scoring.reference,
            sums=scoring.sums,
        )

    def step_bytes(self, components: np.ndarray, way: Sharding) -> int:
        """Bytes on the device of one process at the peak of a step that trains some components, int64 [k], k > 0."""
        activations = self.batch * self.costs.activations(components)
        sizes = replace(self.sizes, rows=self.bank_vectors, activations=activations, scoring={})
        return memory(sizes, way).device.peak

    @property
    def trainable_parameters(self) -> int:
        return self.bank_vectors * self.numbers.d_model

    @property
    def optimizer_bytes(self) -> int:
        """Two moments per weight and an age per vector."""
        return self.bank_vectors * (2 * self.numbers.d_model + 1) * FP32

    @property
    def snapshots(self) -> list[int]:
        """Steps at which the components are scored."""
        return [s for s in self.calendar.steps if self.calendar.snapshot(s)] if self.calendar else []

    @property
    def decisions(self) -> list[int]:
        """Steps at which the policy chooses a mask."""
        return [s for s in self.calendar.steps if self.calendar.decides(s)] if self.calendar else []


def planned_cadence(model: nn.Module, args: ForesightConfig, pairs: bool, steps: int, processes: int) -> Cadence:
    """The cadence of a run of so many steps."""
    grain, target = granularity(args.granularity), target_of(args)
    policy = make_policy(args.policy, args.granularity, args.policy_params)
    assert not isinstance(args.candidates, str)  # the settings were checked
    table, numbers = grain.tables(model, args.mlp_block, args.candidates)
    scorer: Scorer | None = None
    if target.measures:
        scorer = part("scoring.virtual_moves.VirtualMoves")(args.learning_rate)
    elif grain.name != "weights" and (policy.needs_scores or args.record):
        name = scorer_name(grain, target, args, pairs)
        scorer = None if name == "movement" else make_scorer(name, **target.scorer_params)
    costs = StepCosts(model, table, args.max_length or LENGTH) if scorer else None
    trained = budget_vectors(numbers, args.budget) * numbers.d_model
    rows = args.per_device_train_batch_size * args.gradient_accumulation_steps * processes
    return cadence(args, scorer, costs, trained, steps, rows)


def sharding_of(args: ForesightConfig) -> Sharding:
    """How the run is spread over processes, in the terms that memory is predicted in."""
    if not args.deepspeed:
        return Sharding()
    value = args.hf_deepspeed_config.get_value
    bucket, live = (value(f"zero_optimization.{name}") for name in ("reduce_bucket_size", "stage3_max_live_parameters"))
    return Sharding(
        value("zero_optimization.stage", 0),
        args.world_size,
        bool(args.bf16),
        offload_optimizer=value("zero_optimization.offload_optimizer.device", "none") == "cpu",
        offload_param=value("zero_optimization.offload_param.device", "none") == "cpu",
        bucket=None if bucket in (None, "auto") else int(bucket),
        live=Sharding.live if live in (None, "auto") else int(live),
    )
