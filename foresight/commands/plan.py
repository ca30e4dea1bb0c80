"""`foresight plan`: a dry run. Reads the recipe and the model's config; loads no weights, tokenizer or data."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from ..policies import policy_class
from ..training.calendar import Calendar, total_steps
from ..training.config import ForesightConfig
from ..training.plan import Plan, make_plan
from .console import console, size
from .models import load_meta_model
from .settings import parse
from .train import CLASSES


def show(recipe: str | None, flags: Sequence[str], processes: int, rows: int | None) -> None:
    """Print the plan of a recipe with flags.

    Args:
        processes: that ZeRO would shard over.
        rows: training examples, if neither `max_steps` nor a generated task tells how long the run is.
    """
    # The machine that plans need not be the one that trains: ask nothing of its devices.
    data, settings, args = parse(recipe, [*flags, "--use_cpu"], CLASSES)
    rows = rows or (data.task_examples if data.task else None)
    batch = args.per_device_train_batch_size * processes
    steps = total_steps(args.max_steps, args.num_train_epochs, rows, batch, args.gradient_accumulation_steps)
    policy = policy_class(args.policy)
    calendar = None if steps is None else Calendar.of(args, policy, steps)
    plan = make_plan(load_meta_model(settings), args, calendar, processes)
    console().print(_budget(plan, settings.source, args))
    console().print(_steps(plan, args))
    console().print(_memory(plan))


def _budget(plan: Plan, source: str, args: ForesightConfig) -> Table:
    table = _table(f"Plan for {source}")
    table.add_row("model parameters", f"{plan.model_parameters:,}")
    table.add_row("components", f"{plan.components:,}, together {plan.vectors:,} vectors of {plan.d_model:,}")
    share = "everything (policy full)" if args.policy == "full" else f"{args.budget:.4g} of all parameters"
    table.add_row("budget", f"{share} = {plan.bank_vectors:,} vectors")
    table.add_row("trainable parameters", f"{plan.trainable_parameters:,}")
    table.add_row("optimizer state", size(plan.optimizer_bytes))
    table.add_row("weights", size(plan.weight_bytes))
    if plan.watch_vectors > plan.bank_vectors:
        table.add_row("while watching", f"{plan.watch_vectors:,} vectors are trained (watch: {args.watch})")
    if plan.ledger_bytes is not None:
        table.add_row("changed vectors", f"at most {size(plan.ledger_bytes)} in fp32, in host memory and checkpoints")
    return table


def _steps(plan: Plan, args: ForesightConfig) -> Table:
    table = _table("Steps")
    if plan.calendar is None:
        table.add_row("optimizer steps", "depends on the data; set max_steps, or pass --rows N")
        table.add_row("snapshots", f"every {args.probe_every} steps, {plan.probe_batches} batches each")
        table.add_row("masks chosen", f"every {args.remask_every} steps" if args.remask_every else "once")
        return table
    table.add_row("optimizer steps", f"{plan.calendar.total_steps:,}")
    table.add_row("snapshots", _listed(plan.snapshots))
    table.add_row("scoring passes", f"{len(plan.snapshots) * plan.probe_batches:,}, {plan.probe_batches} a snapshot")
    table.add_row("masks chosen", _listed(plan.decisions))
    return table


def _memory(plan: Plan) -> Table:
    count = "1 process" if plan.processes == 1 else f"{plan.processes} processes"
    table = _table(f"Memory of a device, a rough ESTIMATE for {count}")
    table.caption = "largest batch, training or scoring, at full length; a small mask keeps fewer activations"
    table.add_row("activations", size(plan.activation_bytes))
    for stage, sharded in enumerate(("nothing sharded", "optimizer state", "and gradients", "and weights and bank")):
        table.add_row(f"ZeRO {stage}: {sharded}", size(plan.memory(stage)))
    return table


def _table(title: str) -> Table:
    table = Table(title=title, title_justify="left", caption_justify="left", show_header=False, min_width=90)
    table.add_column(no_wrap=True)
    table.add_column()
    return table


def _listed(steps: list[int]) -> str:
    if not steps:
        return "none"
    shown = [str(s) for s in steps] if len(steps) <= 12 else [*map(str, steps[:6]), "...", *map(str, steps[-3:])]
    return f"{len(steps)}, after steps {', '.join(shown)}"
