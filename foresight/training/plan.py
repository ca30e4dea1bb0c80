"""The plan of a run: what it will train, when, and what memory that takes, from the model's shapes alone.

Parameters, vectors, optimizer state and steps are exact. Activations are an estimate by our own formula.
What memory all of it makes, sharded or not, is in `memory.py`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import nn

from ..architectures import architecture_of
from ..components import ComponentTable, component_table, features
from ..masks import budget_vectors
from .calendar import Calendar
from .memory import FP32, Sizes

if TYPE_CHECKING:
    from .config import ForesightConfig

VECTOR_ID = 8
"""Bytes of the id of a ledger entry."""


@dataclass(frozen=True)
class Plan:
    """What a run will take.

    Attributes:
        model_parameters: all of them, tied ones once.
        components: number of components; vectors: vectors of all of them; d_model: weights in a vector.
        bank_vectors: rows of the bank (the budget); watch_vectors: rows while watching, more with watch='full-*'.
        ledger_bytes: fp32 record of all changed vectors if every mask brings new ones; None if their number is unknown.
        calendar: when things happen, or None if the length of the run is unknown.
        probe_batches: batches in a snapshot.
        sizes: what `memory.memory` needs to know; its ledger is 0 if `ledger_bytes` is None.
    """

    model_parameters: int
    components: int
    vectors: int
    d_model: int
    bank_vectors: int
    watch_vectors: int
    ledger_bytes: int | None
    calendar: Calendar | None
    probe_batches: int
    sizes: Sizes

    @property
    def trainable_parameters(self) -> int:
        return self.bank_vectors * self.d_model

    @property
    def optimizer_bytes(self) -> int:
        """Two moments a weight and an age a vector."""
        return self.bank_vectors * (2 * self.d_model + 1) * FP32

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
        ArchitectureError: a family that foresight does not know.
        BudgetError: a budget that no mask can fill.
    """
    table = component_table(model, args.mlp_block)
    rows = table.n_vectors if args.policy == "full" else budget_vectors(table, args.budget)
    watches = calendar is None or calendar.first_decision > 0
    peak = table.n_vectors if watches and args.watch.startswith("full") else rows
    length = min(args.max_length or math.inf, model.config.get_text_config().max_position_embeddings)
    tokens = int(length) * max(args.per_device_train_batch_size, args.probe_batch_size)
    ledger = None if calendar is None else _changed(args, calendar, rows, peak, table) * _ledger_row(table)
    weight = next(model.parameters())
    return Plan(
        model_parameters=table.model_parameters,
        components=len(table),
        vectors=table.n_vectors,
        d_model=table.d_model,
        bank_vectors=rows,
        watch_vectors=peak if watches else rows,
        ledger_bytes=ledger,
        calendar=calendar,
        probe_batches=math.ceil(args.probe_examples / args.probe_batch_size),
        sizes=Sizes(
            weights=table.model_parameters,
            element=weight.element_size(),
            largest=max(p.numel() for p in model.parameters()),
            targets=sum(model.get_submodule(t.module).weight.numel() for t in table.targets),
            rows=max(rows, peak if watches else rows),
            d_model=table.d_model,
            activations=tokens
            * saved_elements(model, args.gradient_checkpointing)
            * min(weight.element_size(), 2 if args.bf16 else FP32),
            ledger=ledger or 0,
            accumulates=args.gradient_accumulation_steps > 1,
        ),
    )


def saved_elements(model: nn.Module, checkpointing: bool) -> int:
    """Estimate the activation elements that autograd keeps for a token, at the peak, if every component is trained.

    Our own count for a layer with attention width H (queries), K (keys) and F neurons: 8 d_model for norms, residuals
    and projection inputs, 5 H + 2 K for attention without its score matrix, 5 F with a gate and 4 F without. Within a
    factor of 1.4 of what autograd saves in fp32 for the families tried; a small mask keeps about half. Checkpointing
    keeps d_model a layer and all of one layer.
    """
    arch, config = architecture_of(model), model.config.get_text_config()
    layers = model.get_submodule(arch.layers)
    width = features(layers[0].get_submodule(arch.attention_out))[1]
    neurons = features(layers[0].get_submodule(arch.down))[1]
    keys = width * (getattr(config, "num_key_value_heads", None) or config.num_attention_heads)
    keys //= config.num_attention_heads
    layer = 8 * config.hidden_size + 5 * width + 2 * keys + (3 + len(arch.up)) * neurons
    return len(layers) * config.hidden_size + layer if checkpointing else len(layers) * layer


def _changed(args: ForesightConfig, calendar: Calendar, rows: int, peak: int, table: ComponentTable) -> int:
    """Vectors that differ from the base in the end if every mask of the run brings only new ones."""
    if not (calendar.remasks or calendar.rotates or args.redraw or args.mask_schedule):
        return peak
    masks = sum(step == 0 or calendar.decides(step) or calendar.turns(step) for step in calendar.steps)
    return min(table.n_vectors, peak + rows * (masks - 1))


def _ledger_row(table: ComponentTable) -> int:
    return table.d_model * FP32 + VECTOR_ID
