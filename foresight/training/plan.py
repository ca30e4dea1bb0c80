"""The plan of a run: what it will train, when, and what memory that takes, from the model's shapes alone.

All is exact except activations, an estimate (see `costs.py`). What memory it makes, sharded or not: see `memory.py`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from torch import nn

from ..masks.budget import budget_over_time, budget_vectors
from ..masks.costs import StepCosts
from ..model.components import ComponentTable, features
from ..model.numbering import Numbering
from ..policies.catalogue import make_policy
from ..policies.granularity import granularity
from .calendar import Calendar
from .checks import taken
from .config import ForesightConfig
from .memory import FP32, Sharding, Sizes, memory


@dataclass(frozen=True)
class Plan:
    """What a run will take.

    Attributes:
        table: components; numbers: what the bank can hold, vectors or single weights.
        bank_vectors: rows of the bank (the budget), at their peak; mean_vectors: on average over the run, another
            number if the budget changes over time; watch_vectors: rows while watching or scouting, more with
            a watch of 'full-*' and for policies that scout.
        ledger_bytes: fp32 record of all changed vectors if every mask brings new ones; None if their number is unknown.
        calendar: when things happen, or None if the length of the run is unknown.
        probe_batches: batches in a snapshot.
        sizes: what `memory.memory` needs to know; its ledger is 0 if `ledger_bytes` is None.
        costs: of a step by its mask; batch: bytes that a training batch keeps for each element that a token does.
    """

    table: ComponentTable
    numbers: Numbering
    bank_vectors: int
    mean_vectors: float
    watch_vectors: int
    ledger_bytes: int | None
    calendar: Calendar | None
    probe_batches: int
    sizes: Sizes
    costs: StepCosts
    batch: int

    def step_bytes(self, components: np.ndarray, way: Sharding) -> int:
        """Bytes on the device of one process at the peak of a step that trains some components, int64 [k], k > 0."""
        activations = self.batch * self.costs.activations(components)
        return memory(replace(self.sizes, rows=self.bank_vectors, activations=activations), way).device.peak

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


def make_plan(model: nn.Module, args: ForesightConfig, calendar: Calendar | None) -> Plan:
    """Plan a run of `model`, which may lie on the meta device: only shapes, dtypes and names are read.

    Raises:
        ArchitectureError: an unknown family; BudgetError: a budget that no mask can fill.
    """
    grain = granularity(args.granularity)
    policy = make_policy(args.policy, args.granularity, args.policy_params)
    table = grain.table(model, args.mlp_block)
    numbers = grain.numbers(model, table)
    budgets = budget_over_time(args.budget_schedule)
    rows = numbers.n_vectors if args.policy == "full" else budget_vectors(numbers, args.budget)
    mean = float(rows)
    if budgets is not None:
        mean, rows = budgets.mean_and_peak(numbers, args.budget)
    watches = calendar is None or calendar.first_decision > 0
    scouts = policy.scouts == "bank"  # on all components, before the run; undone, so not in the ledger
    peak = numbers.n_vectors if watches and policy.watch.startswith("full") else rows  # while it watches
    most = numbers.n_vectors if scouts else peak
    length = int(min(args.max_length or math.inf, model.config.get_text_config().max_position_embeddings))
    element = next(model.parameters()).element_size()
    row = length * min(element, 2 if args.bf16 else FP32)
    costs = StepCosts(model, table, length, args.gradient_checkpointing)
    largest = args.per_device_train_batch_size
    if "probe_batch_size" in taken(args.policy, args.granularity, args.record):
        largest = max(largest, args.probe_batch_size)
    ledger = None
    if calendar is not None:
        changed = peak  # vectors that differ from the base at the end, if every mask of the run brings only new ones
        if calendar.remasks or calendar.resizes or calendar.rotates or args.policy == "replay":
            masks = sum(step == 0 or calendar.decides(step) or calendar.turns(step) for step in calendar.steps)
            changed = min(numbers.n_vectors, peak + rows * (masks - 1))
        ledger = changed * (numbers.d_model * FP32 + 8)  # an id takes 8 bytes
    weights = [math.prod(features(model.get_submodule(t.module))) for t in numbers.targets]
    return Plan(
        table=table,
        numbers=numbers,
        bank_vectors=rows,
        mean_vectors=mean,
        watch_vectors=most,
        ledger_bytes=ledger,
        calendar=calendar,
        probe_batches=math.ceil(args.probe_examples / args.probe_batch_size),
        sizes=Sizes(
            weights=table.model_parameters,
            element=element,
            largest=max(getattr(p, "ds_numel", p.numel()) for p in model.parameters()),
            targets=sum(weights),
            rows=most,
            d_model=table.d_model,
            activations=largest * row * costs.activations(np.arange(len(table))),
            ledger=ledger or 0,
            accumulates=args.gradient_accumulation_steps > 1,
            matrix=max(weights) if grain.needs_whole_weights else 0,
        ),
        costs=costs,
        batch=args.per_device_train_batch_size * row,
    )


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
