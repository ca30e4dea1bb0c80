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
    maskable = table.n_vectors * table.d_model
    rest = table.model_parameters - maskable
    result.add_row("all", "components", str(len(table)), "", "", f"{maskable:,}", _share(maskable, table))
    result.add_row("all", "not maskable", "", "", "", f"{rest:,}", _share(rest, table))
    result.add_row("all", "all", "", "", "", f"{table.model_parameters:,}", _share(table.model_parameters, table))
    return result


def _row(kind: str, members: list[Component], table: ComponentTable) -> tuple[str, ...]:
    least, most = min(c.n_vectors for c in members), max(c.n_vectors for c in members)
    parameters = sum(c.n_vectors for c in members) * table.d_model
    return (
        kind,
        f"{len(members):,}",
        _range(least, most),
        _range(least * table.d_model, most * table.d_model),
        f"{parameters:,}",
        _share(parameters, table),
    )


def _range(least: int, most: int) -> str:
    return f"{most:,}" if least == most else f"{least:,} to {most:,}"


def _share(parameters: int, table: ComponentTable) -> str:
    return f"{parameters / table.model_parameters:.2%}"
