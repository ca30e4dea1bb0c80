"""`foresight forecasters`: which there are, and whether one keeps the contract."""

from __future__ import annotations

import re

from rich.table import Table
from rich.text import Text

from ..common.console import console
from ..common.errors import ConfigError
from ..forecasters import DEFAULT, REGISTRY, forecaster_names, make_forecaster
from ..forecasters.conformance import iterate_checks
from ..forecasters.wrap import FunctionForecaster

_COLOURS = {"pass": "green", "fail": "bold red", "expected failure": "yellow"}


def show() -> None:
    """Print every forecaster by name. A package that cannot be imported is listed with its error."""
    table = Table(
        "name", "origin", "what it does", "quantiles", "pretraining", title="Forecasters", title_justify="left"
    )
    table.caption = f"Default: {DEFAULT}. Any other one: module:Class, for a module that can be imported from here."
    table.caption_justify = "left"
    for name in forecaster_names():
        table.add_row(*(Text(cell) for cell in (name, REGISTRY.origin(name), *_abilities(name))))
    console().print(table)


def check(name: str) -> int:
    """Try every rule on a forecaster and print what came of it. Returns 0, or 1 if one failed.

    Raises:
        ConfigError: no such forecaster (UnknownNameError), or not one.
    """
    made = make_forecaster(name)
    screen = console()
    table = Table("rule", "outcome", "what it says, or why not", title=str(made), title_justify="left")
    results = []
    with screen.status("checking") as status:
        for result in iterate_checks(made):
            results.append(result)
            status.update(f"{len(results)} rules tried")
            table.add_row(
                result.rule, Text(result.outcome, _COLOURS[result.outcome]), Text(result.reason or result.doc)
            )
    screen.print(table)
    failed = sum(result.outcome == "fail" for result in results)
    expected = sum(result.outcome == "expected failure" for result in results)
    screen.print(f"{len(results)} rules: {failed} failed, {expected} expected to fail")
    return 1 if failed else 0


def _abilities(name: str) -> tuple[str, str, str]:
    try:
        found = REGISTRY.find(name)
    except ConfigError as error:
        return str(error), "?", "?"
    past = "needed" if found.needs_pretraining else "used" if found.learns_from_past() else "ignored"
    described = found.function if isinstance(found, FunctionForecaster) else found
    return _first_sentence(described.__doc__ or ""), "yes" if found.has_quantiles() else "no", past


def _first_sentence(doc: str) -> str:
    paragraph = " ".join(doc.strip().split("\n\n")[0].split())
    return re.split(r"(?<=\.) ", paragraph)[0]
