"""What the values of a recipe become: dataclasses, which check them, and plain values again, to be printed and kept."""

from __future__ import annotations

import dataclasses
import json
import warnings
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import yaml

from ..common.errors import ConfigError

T = TypeVar("T")


def build(cls: Callable[..., T], values: Mapping[str, Any]) -> T:
    """Build a dataclass from those of the values that are its own. Raises ConfigError if it refuses them."""
    names = {field.name for field in dataclasses.fields(cls) if field.init}  # type: ignore[arg-type]
    try:
        with warnings.catch_warnings():  # TRL sets the deprecated name itself, whatever a recipe says
            warnings.filterwarnings("ignore", "`gradient_checkpointing` is deprecated", FutureWarning)
            return cls(**{name: value for name, value in values.items() if name in names})
    except ConfigError:
        raise
    except (ValueError, ImportError) as error:  # from TRL's own checks
        raise ConfigError(str(error)) from error


def default_of(field: dataclasses.Field) -> Any:
    """The default of a dataclass field, made anew if it has a factory."""
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()


def resolved(**parts: Any) -> dict[str, dict[str, Any]]:
    """Every field of the given dataclass instances, by part, as JSON-able values; access tokens are hidden."""
    return {name: _plain(part) for name, part in parts.items()}


def changed(*parts: Any) -> dict[str, Any]:
    """The fields of dataclass instances that differ from their defaults, by name, as JSON-able values."""
    result = {}
    for part in parts:
        plain = _plain(part)
        for field in dataclasses.fields(part):
            if field.init and field.name in plain and getattr(part, field.name) != default_of(field):
                result[field.name] = plain[field.name]
    return result


def show(settings: Mapping[str, Any]) -> None:
    """Print settings as a recipe has them."""
    if settings:
        print(yaml.safe_dump(dict(settings), sort_keys=False))


def _plain(part: Any) -> dict[str, Any]:
    fields = part.to_dict() if hasattr(part, "to_dict") else dataclasses.asdict(part)
    return json.loads(json.dumps(fields, default=str))
