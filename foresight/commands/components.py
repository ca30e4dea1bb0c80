"""`foresight components`: what of a model can be masked."""

from __future__ import annotations

from itertools import groupby

from rich.table import Table

from ..common.console import console
from ..model.components import Component, ComponentTable, component_table
from ..model.loading import load_meta_model
from ..model.model_config import ModelConfig


def show(model: str | None, mlp_block: int | None, each: bool) -> None:
    """Print the component table of a model, from its config alone: by layer and kind, or `each` component on a line."""
    settings = ModelConfig(model=model)
    table = component_table(load_meta_model(settings), mlp_block)
    if each:
        print("name\tlayer\tkind\tvectors\tparameters")
        for c in table:
            print(f"{c.name}\t{c.layer}\t{c.kind}\t{c.n_vectors}\t{c.n_vectors * table.d_model}")
    else:
        console().print(_summary(table, settings.source))


def _summary(table: ComponentTable, source: str) -> Table:
    result = Table(title=f"Components of {source}", title_justify="left", caption_justify="left")
    result.caption = (
        f"A vector has d_model = {table.d_model} weights. Embeddings, head, norms and biases are never trained; they "
        "count in `all` and so in every budget."
    )
    for heading in ("layer", "kind"):
        result.add_column(heading)
    for heading in ("components", "vectors each", "parameters each", "parameters", "share of all"):
        result.add_column(heading, justify="right")
    kinds: dict[str, list[Component]] = {}
    for layer, components in groupby(table, key=lambda c: c.layer):
        for kind, group in groupby(components, key=lambda c: c.kind):
            members = list(group)
            kinds.setdefault(kind, []).extend(members)
            result.add_row(str(layer), *_row(kind, members, table))
        result.add_section()
    for kind, members in kinds.items():
        result.add_row("all", *_row(kind, members, table))
    maskable, every = table.n_vectors * table.d_model, table.model_parameters
    sums = {"components": (str(len(table)), maskable), "not maskable": ("", every - maskable), "all": ("", every)}
    for kind, (count, parameters) in sums.items():
        result.add_row("all", kind, count, "", "", f"{parameters:,}", f"{parameters / every:.2%}")
    return result


def _row(kind: str, members: list[Component], table: ComponentTable) -> tuple[str, ...]:
    sizes = [component.n_vectors for component in members]
    ranges = [(weights * min(sizes), weights * max(sizes)) for weights in (1, table.d_model)]
    each = [f"{most:,}" if least == most else f"{least:,} to {most:,}" for least, most in ranges]
    parameters = sum(sizes) * table.d_model
    return kind, f"{len(members):,}", *each, f"{parameters:,}", f"{parameters / table.model_parameters:.2%}"
