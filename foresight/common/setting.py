"""A setting of a recipe: a dataclass field with a default value and a help text."""

from __future__ import annotations

from dataclasses import field
from typing import Any


def setting(default: Any, help: str) -> Any:
    """A dataclass field. `default` may be a list or a mapping: every instance gets its own copy."""
    if isinstance(default, list | dict):
        return field(default_factory=default.copy, metadata={"help": help})
    return field(default=default, metadata={"help": help})
