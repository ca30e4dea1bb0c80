"""One family of errors. Every message names the value, what was expected, and the remedy."""

from __future__ import annotations

import json
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any


class ForesightError(Exception):
    """Root of every error that foresight raises on purpose."""


class ConfigError(ForesightError, ValueError):
    """A setting has a value that cannot be used."""


class BudgetError(ConfigError):
    """A budget that no mask can meet."""


class UnknownNameError(ConfigError):
    """A name that is not registered; the message offers the closest one."""

    def __init__(self, what: str, name: str, known: Iterable[str]):
        known = sorted(known)
        super().__init__(f"unknown {what} {name!r}{did_you_mean(name, known)}; known: {', '.join(known)}")


class ArchitectureError(ForesightError):
    """A model whose modules foresight does not know."""


class DataError(ForesightError, ValueError):
    """A dataset, or one row of it, that cannot be used."""


class TrajectoryError(ForesightError):
    """A trajectory that is damaged, or belongs to another model."""


class CheckpointError(ForesightError):
    """A checkpoint or delta that is incomplete or damaged, or belongs to another model."""


class MaskLeakError(ForesightError):
    """A weight outside the mask changed, or nothing inside it did."""


class RankError(ForesightError):
    """A process of a group did not come to where the others wait for it."""


class StoppedError(ForesightError):
    """A run was asked to stop before its end; its checkpoint is complete. `code` is the exit code that says so."""

    def __init__(self, message: str, code: int):
        self.code = code
        super().__init__(message)


class NonFiniteError(ForesightError):
    """The loss, a gradient or a score became NaN or infinite."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ``" (did you mean 'x'?)"`` for the closest of `known`, or an empty string."""
    match = get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" (did you mean {match[0]!r}?)" if match else ""


def one_of(what: str, value: str, known: Iterable[str]) -> str:
    """Return `value` if it is known, else raise UnknownNameError."""
    known = tuple(known)
    if value not in known:
        raise UnknownNameError(what, value, known)
    return value


def known_params(what: str, name: str, params: Iterable[str], known: Iterable[str]) -> None:
    """Raise ConfigError for a parameter that is not `known`; `what` and `name` say what lacks it."""
    known = tuple(known)
    for param in params:
        if param not in known:
            raise ConfigError(
                f"{what} {name!r} has no parameter {param!r}{did_you_mean(param, known)}; "
                f"it has: {', '.join(known) or 'none'}"
            )


def mapping(name: str, value: Any, example: str) -> dict[str, Any] | None:
    """Return the mapping that a setting holds, parsing JSON text from the command line; None stays None.

    Raises:
        ConfigError: neither a mapping nor JSON text of one; the message shows `example`.
    """
    parsed = value
    if isinstance(value, str):
        try:
            parsed = json.loads(value)
        except json.JSONDecodeError as error:
            raise ConfigError(f"{name} {value!r} is not JSON ({error})") from error
    if parsed is not None and not isinstance(parsed, dict):
        raise ConfigError(f"{name} is {value!r}; expected a mapping such as {example}")
    return parsed
