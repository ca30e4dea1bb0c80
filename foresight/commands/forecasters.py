"""`foresight forecasters`: which there are, and whether one keeps the contract."""

from __future__ import annotations

import re
from collections import Counter

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
    columns = ("name", "origin", "what it does", "pretraining")
    table = Table(*columns, title="Forecasters", title_justify="left", caption_justify="left")
    table.caption = f"Default: {DEFAULT}. Any other one: module:Class, for a module that can be imported from here."
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
    outcomes: Counter[str] = Counter()
    with screen.status("checking") as status:
        for result in iterate_checks(made):
            outcomes[result.outcome] += 1
            status.update(f"{outcomes.total()} rules tried")
            outcome = Text(result.outcome, _COLOURS[result.outcome])
            table.add_row(result.rule, outcome, Text(result.reason or result.doc))
    screen.print(table)
    failed, expected = outcomes["fail"], outcomes["expected failure"]
    screen.print(f"{outcomes.total()} rules: {failed} failed, {expected} expected to fail")
    return 1 if failed else 0


def _abilities(name: str) -> tuple[str, str]:
    try:
        found = REGISTRY.find(name)
    except ConfigError as error:
        return str(error), "?"
    past = "needed" if found.needs_pretraining else "used" if found.learns_from_past() else "ignored"
    described = found.function if isinstance(found, FunctionForecaster) else found
    paragraph = " ".join((described.__doc__ or "").strip().split("\n\n")[0].split())
    first_sentence = re.split(r"(?<=\.) ", paragraph)[0]
    return first_sentence, past
