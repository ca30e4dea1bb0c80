"""`foresight plan`: a dry run. Reads the recipe and the model's config; loads no weights, tokenizer or data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from rich.table import Table

from ..common.console import console
from ..common.numbers import size
from ..masks.budget import budget_over_time
from ..masks.selection import Limit, depths, select
from ..model.loading import load_meta_model
from ..model.model_config import ModelConfig
from ..policies.catalogue import make_policy
from ..policies.granularity import granularity
from ..policies.policy import Policy
from ..policies.scouted import Scouted
from ..tasks.data_config import DataConfig
from ..training.calendar import Calendar, total_steps
from ..training.checks import retained_size
from ..training.config import ForesightConfig
from ..training.limits import StepLimits
from ..training.memory import Sharding, memory, remask_bytes, ways
from ..training.plan import Plan, planned_cadence
from ..training.scoring_budget import scoring_share
from .settings import build


def show(values: Mapping[str, Any], processes: int, rows: int | None) -> None:
    """Print the plan of a training run with the given settings.

    Args:
        processes: of a run under DeepSpeed.
        rows: training examples, if neither `max_steps` nor a generated task tells how long the run is.
    """
    data, settings, args = build(DataConfig, values), build(ModelConfig, values), build(ForesightConfig, values)
    rows = rows or (data.task_examples if data.task else None)
    batch = args.per_device_train_batch_size * processes
    steps = total_steps(args.max_steps, args.num_train_epochs, rows, batch, args.gradient_accumulation_steps)
    policy = make_policy(args.policy, args.granularity, args.policy_params)
    model, pairs, calendar = load_meta_model(settings), bool(data.task or data.contrast), None
    if steps is not None:
        calendar = Calendar(args, policy, steps, planned_cadence(model, args, pairs, steps, processes))
        calendar.check(args.get_warmup_steps(calendar.total_steps))
    plan = Plan(model, args, calendar, pairs=pairs)
    console().print(_budget(plan, settings.source, args, policy))
    console().print(_steps(plan, args, policy, batch * args.gradient_accumulation_steps))
    if not granularity(args.granularity).needs_whole_weights:
        console().print(_step(plan, StepLimits(model, plan.table, args).of_masks()))
    console().print(_memory(plan, args, processes))
    console().print(_remask(plan, args, processes))


def _budget(plan: Plan, source: str, args: ForesightConfig, policy: Policy) -> Table:
    table, unit = _table(f"Plan for {source}"), plan.numbers.unit
    table.add_row("model parameters", f"{plan.table.model_parameters:,}")
    vectors = unit if unit == "weights" else f"vectors of {plan.numbers.d_model:,}"
    table.add_row("components", f"{len(plan.table):,}, together {plan.numbers.n_vectors:,} {vectors}")
    if plan.numbers.restricted:
        table.add_row("candidates", f"{plan.numbers.available:,} {unit}")
    share = "everything (policy full)" if args.policy == "full" else f"{args.budget:.4g} of all parameters"
    table.add_row("budget", f"{share} = {plan.mean_vectors:,.0f} {unit}")
    if budget_over_time(args.budget_schedule) is not None:
        table.add_row("over the run", f"{plan.mean_vectors:,.0f} {unit} on average, {plan.bank_vectors:,} at the peak")
    table.add_row("trainable parameters", f"{plan.trainable_parameters:,}")
    table.add_row("optimizer state", size(plan.optimizer_bytes))
    table.add_row("weights", size(plan.sizes.weights * plan.sizes.element))
    if plan.watch_vectors > plan.bank_vectors:
        when = "scouting" if policy.scouts else f"watching ({policy.watch})"
        table.add_row(f"while {when}", f"{plan.watch_vectors:,} {unit} are trained")
    if plan.ledger_bytes is not None:
        table.add_row(f"changed {unit}", f"at most {size(plan.ledger_bytes)} in fp32, in host memory and checkpoints")
    return table


def _steps(plan: Plan, args: ForesightConfig, policy: Policy, rows_of_step: int) -> Table:
    table = _table("Steps")
    if isinstance(policy, Scouted):
        table.add_row("scout", f"{policy.share:.3g} of the training rows once, at least one step; then undone")
    if args.retained_source != "data" and (args.target == "damage" or args.replay_share):
        written = retained_size(args)
        rows = f"{written['examples']:,} rows of at most {written['tokens']} new tokens"
        table.add_row("retained text", f"{rows}, written before training")
    if plan.calendar is None:
        table.add_row("optimizer steps", "depends on the data; set max_steps, or pass --rows N")
        table.add_row("snapshots", f"within {scoring_share(args):.0%} of the run's time")
        table.add_row("masks chosen", "once" if args.remask_every == 0 else "several times")
        return table
    table.add_row("optimizer steps", f"{plan.calendar.total_steps:,}")
    table.add_row("snapshots", _listed(plan.snapshots))
    if plan.snapshots:
        cadence, n = plan.calendar.cadence, len(plan.snapshots)
        later = "" if n == 1 else ", then along with training" if cadence.along else f", then {cadence.each} each time"
        share = cadence.share(n, plan.calendar.total_steps * rows_of_step)
        cost = f": {share:.1%} of the run's operations" if cadence.row else ""
        table.add_row("examples scored", f"{cadence.first} at first{later}{cost}")
    table.add_row("masks chosen", _listed(plan.decisions))
    return table


def _step(plan: Plan, limits: Sequence[Limit]) -> Table:
    """What a step costs by the mask; raises BudgetError if no mask keeps the limits."""
    title = "A train step by its mask, in one process without DeepSpeed"
    table = _table(title, "operations, of full fine-tuning's", "activations", "memory at the peak")
    spread = np.random.default_rng(0).random(len(plan.table))
    rows: list[tuple[str, np.ndarray, Sequence[Limit]]]
    rows = [("spread over all layers", spread, ()), ("the highest layers alone", depths(plan.table), ())]
    rows += [("by random scores, within the limits", spread, limits)] if limits else []
    for name, scores, kept in rows:
        mask = np.array(select(scores, plan.table, plan.bank_vectors, limits=kept).components)
        activations, peak = plan.batch * plan.costs.activations(mask), plan.step_bytes(mask, Sharding())
        table.add_row(name, f"{plan.costs.share(mask):.2f}", size(activations), size(peak))
    table.caption = "Predicted, at full length; the setting `limits` chooses masks by it."
    return table


def _memory(plan: Plan, args: ForesightConfig, processes: int) -> Table:
    count = "1 process" if processes == 1 else f"{processes} processes"
    title = f"Memory of each process at its peak; DeepSpeed with {count}"
    table = _table(title, "device", "largest while", "host")
    for name, way in ways(processes, bool(args.bf16)).items():
        if way.stage == 3 and granularity(args.granularity).needs_whole_weights:
            continue  # refused
        predicted = memory(plan.sizes, way)
        phases = predicted.device.phases
        largest = max(phases, key=lambda phase: sum(phases[phase].values()))
        table.add_row(name, size(predicted.device.peak), largest, size(predicted.host.peak))
    scoring = "".join(f", {phase} {size(needed)}" for phase, needed in plan.sizes.scoring.items())
    table.caption = (
        f"Estimated at full length: activations of a step {size(plan.sizes.activations)}{scoring}. A small mask keeps "
        "fewer. DeepSpeed's settings as in recipes/deepspeed. Left out: the framework "
        f"itself and fragmentation{'' if plan.calendar else '; changed vectors on the host (set max_steps or --rows)'}."
    )
    return table


def _remask(plan: Plan, args: ForesightConfig, processes: int) -> Table:
    table = _table("A re-mask")
    zero3 = ways(processes, bool(args.bf16))["ZeRO 3"]
    bank, weights = remask_bytes(plan.sizes, zero3)
    on_device = memory(plan.sizes, zero3).device.phases["re-mask"]
    table.add_row("each process receives", f"{size(bank)} (the bank and its two moments, one after the other)")
    whole = granularity(args.granularity).needs_whole_weights  # which ZeRO 3 does not leave on a process
    if not whole:
        table.add_row("under ZeRO 3 also", f"the touched weights, at most {size(weights)} for each pass over them")
    table.add_row("on the device meanwhile", f"{size(on_device['gathered bank'])}, one at a time")
    if not whole:
        table.add_row("under ZeRO 3 also", f"{size(on_device['gathered weights'])}, the largest weight")
    return table


def _table(title: str, *headings: str) -> Table:
    """A table of names and values, or of names and numbers under headings."""
    table = Table(title=title, title_justify="left", caption_justify="left", show_header=bool(headings), min_width=90)
    table.add_column(no_wrap=True)
    for heading in headings or ("",):
        table.add_column(heading, justify="right" if headings else "left")
    return table


def _listed(steps: list[int]) -> str:
    if not steps:
        return "none"
    shown = [str(s) for s in steps] if len(steps) <= 12 else [*map(str, steps[:6]), "...", *map(str, steps[-3:])]
    return f"{len(steps)}, after steps {', '.join(shown)}"
