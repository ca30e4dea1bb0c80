"""The conformance suite: rules that every forecaster must keep, and checks that try them.

In a test file::

    from foresight.forecasters.conformance import parametrize_with_checks

    @parametrize_with_checks([Mine(), Mine(alpha=0.1)])
    def test_it_is_a_forecaster(forecaster, check):
        check(forecaster)

In a script call `check_forecaster(Mine())`; on the command line, `foresight forecasters check my_module:Mine`.

A forecaster names the rules that it cannot keep in its class attribute `expected_failures = {"rule": "reason"}`. They
are still tried: if one passes after all, the suite fails, so that the list stays true.

Rules need no data and no network. `growth` measures processor time; all others are exact or within rounding.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from inspect import isfunction
from typing import Any, Literal

from ...common.errors import ConfigError, UnknownNameError
from .. import make_forecaster
from ..forecaster import Forecaster
from . import object_rules, prediction_rules

__all__ = ["CheckResult", "check_forecaster", "iterate_checks", "parametrize_with_checks"]

Rule = Callable[[Forecaster], None]

RULES: dict[str, Rule] = {
    name: rule
    for module in (object_rules, prediction_rules)
    for name, rule in vars(module).items()
    if isfunction(rule) and rule.__module__ == module.__name__ and not name.startswith("_")
}
"""Name -> rule: a public function of the two modules, which raises for a forecaster that breaks it and changes none."""


@dataclass(frozen=True)
class CheckResult:
    """The outcome of one rule.

    Attributes:
        rule: its name; doc: its text.
        outcome: "pass", "fail", or "expected failure".
        reason: why it failed, or why that was expected; empty after a pass.
    """

    rule: str
    doc: str
    outcome: Literal["pass", "fail", "expected failure"]
    reason: str = ""


def iterate_checks(forecaster: Forecaster | str) -> Iterator[CheckResult]:
    """Try every rule in turn; a broken rule is a result, not an error.

    Args:
        forecaster: unfitted (pretrained or not), or a name that `make_forecaster` knows.

    Raises:
        ConfigError: not a forecaster, or an expected failure of a rule that does not exist (UnknownNameError).
    """
    made = _made(forecaster)
    return (_tried(made, name) for name in RULES)


def check_forecaster(forecaster: Forecaster | str) -> list[CheckResult]:
    """Try every rule.

    Raises:
        AssertionError: after all were tried, if any failed; the message gives each with its reason.
        ConfigError: as `iterate_checks`.
    """
    made = _made(forecaster)
    results = list(iterate_checks(made))
    failed = [f"{result.rule}: {result.reason}" for result in results if result.outcome == "fail"]
    if failed:
        raise AssertionError(f"forecaster {made.name!r} breaks {len(failed)} rules:\n" + "\n".join(failed))
    return results


def parametrize_with_checks(forecasters: Iterable[Forecaster | str]) -> Any:
    """A pytest decorator for a test function of `(forecaster, check)`: one test per forecaster and rule.

    Expected failures become strict xfails. Needs pytest.
    """
    import pytest

    cases = []
    for made in map(_made, forecasters):
        for name, rule in RULES.items():
            reason = made.expected_failures.get(name)
            marks = [pytest.mark.xfail(reason=reason, strict=True)] if reason else []
            cases.append(pytest.param(made, rule, id=f"{_shown(made)}-{name}", marks=marks))
    return pytest.mark.parametrize(("forecaster", "check"), cases)


def _shown(forecaster: Forecaster) -> str:
    """On one line, without memory addresses: pytest-xdist needs the same test names in every process."""
    return re.sub(r" at 0x[0-9a-f]+", "", " ".join(str(forecaster).split()))


def _tried(forecaster: Forecaster, name: str) -> CheckResult:
    rule, expected = RULES[name], forecaster.expected_failures.get(name)
    doc = (rule.__doc__ or "").strip()
    try:
        rule(forecaster)
    except Exception as error:  # somebody else's code may raise anything; the other rules still get their turn
        message = str(error) if isinstance(error, AssertionError) else f"{type(error).__name__}: {error}"
        return CheckResult(name, doc, "expected failure" if expected else "fail", expected or message)
    if expected:
        return CheckResult(name, doc, "fail", f"passes, though it is an expected failure ({expected}); remove it there")
    return CheckResult(name, doc, "pass")


def _made(forecaster: Forecaster | str) -> Forecaster:
    made = make_forecaster(forecaster) if isinstance(forecaster, str) else forecaster
    if not isinstance(made, Forecaster):
        kind = "a class; pass an object of it" if isinstance(made, type) else type(made).__name__
        raise ConfigError(f"expected a Forecaster or the name of one, got {kind}")
    for name in made.expected_failures:
        if name not in RULES:
            raise UnknownNameError(f"rule in expected_failures of {made.name!r}:", name, RULES)
    return made
