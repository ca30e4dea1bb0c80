"""The conformance suite: what every forecaster has to do, whatever it believes.

In a test file::

    from foresight.forecasters.conformance.checks import parametrize_with_checks

    @parametrize_with_checks([Mine(), Mine(alpha=0.1)])
    def test_it_is_a_forecaster(forecaster, check):
        check(forecaster)

In a script `check_forecaster(Mine())`; on the command line `foresight forecasters check my_module:Mine`.

A forecaster names the rules that it cannot keep in its class attribute `expected_failures = {"rule": "reason"}`. They
are still tried: one that passes after all fails the suite, so that the list stays true.

Rules need no data and no network. `growth` measures processor time; all others are exact or within rounding.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from ...common.errors import ConfigError, UnknownNameError
from ..base import Forecaster
from ..registry import make_forecaster
from . import contract as contract
from . import forecasts as forecasts

Rule = Callable[[Forecaster], None]

RULES: dict[str, Rule] = {
    rule.__name__: rule
    for rule in (
        contract.parameters_untouched,
        contract.clone_round_trip,
        contract.not_fitted_error,
        contract.bad_horizons_refused,
        contract.inputs_untouched,
        contract.random_state_untouched,
        forecasts.output,
        forecasts.one_snapshot,
        forecasts.short_series,
        forecasts.constant_series,
        contract.nan_refused,
        contract.bad_updates_refused,
        forecasts.deterministic,
        forecasts.permutation_equivariance,
        forecasts.ties_stable,
        forecasts.no_look_ahead,
        forecasts.update_equals_fit,
        contract.pretraining,
        forecasts.quantiles,
        contract.state_round_trip,
        contract.hostile_state_refused,
        forecasts.growth,
    )
}
"""Name -> function of a forecaster that raises when it breaks the rule. The forecaster itself is never changed."""


@dataclass(frozen=True)
class CheckResult:
    """What came of one rule.

    Attributes:
        rule: its name; doc: what it says.
        outcome: "pass", "fail", or "expected failure".
        reason: why it failed, or why that was expected; empty after a pass.
    """

    rule: str
    doc: str
    outcome: Literal["pass", "fail", "expected failure"]
    reason: str = ""


def iterate_checks(forecaster: Forecaster | str) -> Iterator[CheckResult]:
    """Try every rule, one after the other; nothing is raised for one that is broken.

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
        AssertionError: after all were tried, if one failed; the message has each with its reason.
        ConfigError: as `iterate_checks`.
    """
    made = _made(forecaster)
    results = list(iterate_checks(made))
    failed = [f"{result.rule}: {result.reason}" for result in results if result.outcome == "fail"]
    if failed:
        raise AssertionError(f"forecaster {made.name!r} breaks {len(failed)} rules:\n" + "\n".join(failed))
    return results


def parametrize_with_checks(forecasters: Iterable[Forecaster | str]) -> Any:
    """A pytest decorator for a test function of `(forecaster, check)`: one test for every forecaster and rule.

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
    """On one line, without the addresses of functions: pytest-xdist needs the same in every process."""
    return re.sub(r" at 0x[0-9a-f]+", "", " ".join(str(forecaster).split()))


def _tried(forecaster: Forecaster, name: str) -> CheckResult:
    rule, expected = RULES[name], forecaster.expected_failures.get(name)
    doc = (rule.__doc__ or "").strip()
    try:
        rule(forecaster)
    except Exception as error:  # of somebody else's code; every rule gets its turn
        message = str(error) if isinstance(error, AssertionError) else f"{type(error).__name__}: {error}"
        return CheckResult(name, doc, "expected failure" if expected else "fail", expected or message)
    if expected:
        return CheckResult(name, doc, "fail", f"passes, though it is an expected failure ({expected}); take it off")
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
