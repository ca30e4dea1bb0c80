"""The conformance suite: rules that every forecaster must keep, and checks that try them."""

from .checks import CheckResult, check_forecaster, iterate_checks, parametrize_with_checks

__all__ = ["CheckResult", "check_forecaster", "iterate_checks", "parametrize_with_checks"]
