"""Settings of a run: a YAML recipe, then flags, parsed by TRL's parser into dataclasses.

A recipe is a flat mapping of field names to values. Its scalars go through the same parser as flags, so that both are
checked alike; unknown and repeated keys are errors that name file, line and the closest match.
"""

from __future__ import annotations

import dataclasses
import json
import textwrap
import warnings
from collections.abc import Sequence
from pathlib import Path
from types import UnionType
from typing import Any, NoReturn, Union, get_args, get_origin, get_type_hints

import yaml
from trl import TrlParser

from ..common.errors import ConfigError, did_you_mean
from ..training.settings import REMOVED


class _Parser(TrlParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigError(message)


def parse(recipe: str | Path | None, flags: Sequence[str], classes: Sequence[type]) -> tuple[Any, ...]:
    """Build one instance of every dataclass in `classes` from a recipe file (or none) and flags that override it.

    Raises:
        ConfigError: the recipe cannot be read, no dataclass has a key or flag (the message offers the closest), or a
            value does not fit.
    """
    hints = {name: hint for cls in classes for name, hint in settings_of(cls).items()}
    parser = _Parser(classes, prog="foresight", allow_abbrev=False)
    given = _read(recipe) if recipe is not None else {}
    flags, nested = _nested(flags, given, hints)
    arguments = _arguments(parser, str(recipe), given, hints)
    for name, values in nested.items():
        parser.set_defaults_with_config(**{name: values})
    _, unknown = parser.parse_known_args(flags)
    for word in unknown:
        if not word.startswith("--"):
            raise ConfigError(f"unexpected argument {word!r}; a setting is given as --name value")
        name = word[2:].split("=")[0].replace("-", "_")
        raise ConfigError(f"unknown setting {name!r}{_hint(name, hints)}; --settings lists all")
    try:
        with warnings.catch_warnings():  # TRL sets the deprecated name itself, whatever a recipe says
            warnings.filterwarnings("ignore", "`gradient_checkpointing` is deprecated", FutureWarning)
            return parser.parse_args_into_dataclasses([*arguments, *flags], look_for_args_file=False)
    except ConfigError:
        raise
    except (ValueError, ImportError) as error:  # from the dataclasses' own checks
        raise ConfigError(str(error)) from error


def _nested(
    flags: Sequence[str], given: dict[str, tuple[Any, int]], hints: dict[str, Any]
) -> tuple[list[str], dict[str, dict[str, Any]]]:
    """Take what is written flat, as in ``--policy_params.redraw true`` or ``policy_params.redraw: true``, out of flags
    and recipe (in place): (the other flags, mapping by name, flags over the recipe's own).
    """
    found: dict[str, dict[str, Any]] = {}
    for key in [key for key in given if "." in key]:
        name, _, inner = key.partition(".")
        value, line = given.pop(key)
        if name in hints and _accepts(hints[name], dict):
            found.setdefault(name, {})[inner] = value
        else:
            given[key] = value, line  # unknown, and refused as such
    rest, words = [], iter(flags)
    for word in words:
        flag, equals, value = word.partition("=")
        name, dot, inner = flag.removeprefix("--").replace("-", "_").partition(".")
        if not (word.startswith("--") and dot and name in hints and _accepts(hints[name], dict)):
            rest.append(word)
            continue
        text = value if equals else next(words, None)
        if text is None:
            raise ConfigError(f"{flag} has no value; a setting is given as --name value")
        found.setdefault(name, {})[inner] = yaml.safe_load(text)
    for name, values in found.items():
        whole = given.pop(name, (None, 0))[0] or {}
        found[name] = (whole if isinstance(whole, dict) else {}) | values
    return rest, found


def _hint(name: str, hints: dict[str, Any]) -> str:
    return f": {REMOVED[name]}" if name in REMOVED else did_you_mean(name, hints)


def settings_of(cls: type) -> dict[str, Any]:
    """Field name -> type of everything that can be set in a dataclass."""
    hints = get_type_hints(cls)
    return {field.name: hints[field.name] for field in dataclasses.fields(cls) if field.init}


def _arguments(parser: _Parser, recipe: str, given: dict[str, tuple[Any, int]], hints: dict[str, Any]) -> list[str]:
    """Scalars of the recipe as flags, checked; its lists, mappings and nulls become the parser's defaults."""
    arguments, defaults = [], {}
    for key, (value, line) in given.items():
        where = f"{recipe}:{line}"
        if key not in hints:
            raise ConfigError(f"{where}: unknown setting {key!r}{_hint(key, hints)}")
        if value is None or isinstance(value, (list, dict)):
            if not _accepts(hints[key], type(value)):
                raise ConfigError(f"{where}: {key} is {value!r}; expected {_name(hints[key])}")
            defaults[key] = value
            continue
        try:
            parser.parse_known_args([f"--{key}={value}"])
        except ConfigError as error:
            raise ConfigError(f"{where}: {error}") from error
        arguments.append(f"--{key}={value}")
    parser.set_defaults_with_config(**defaults)
    return arguments


def _accepts(hint: Any, kind: type) -> bool:
    alternatives = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    return any((get_origin(a) or a) is kind for a in alternatives)


def _name(hint: Any) -> str:
    return hint.__name__ if isinstance(hint, type) else str(hint).replace("typing.", "")


def _read(recipe: str | Path) -> dict[str, tuple[Any, int]]:
    """Key -> (value, line in the file)."""
    try:
        text = Path(recipe).read_text(encoding="utf-8")
        tree, values = yaml.compose(text, Loader=yaml.SafeLoader), yaml.safe_load(text)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"recipe {recipe} cannot be read: {error}") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{recipe}:{mark.line + 1}" if mark else str(recipe)
        raise ConfigError(f"{where}: not valid YAML: {getattr(error, 'problem', None) or error}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{recipe}: expected a mapping such as `budget: 0.05`, found {type(values).__name__}")
    found: dict[str, tuple[Any, int]] = {}
    for node, _ in tree.value:
        key, line = node.value, node.start_mark.line + 1
        if key in found:
            raise ConfigError(f"{recipe}:{line}: {key!r} is set twice (first on line {found[key][1]})")
        found[key] = (values.get(key), line)
    return found


def resolved(**parts: Any) -> dict[str, dict[str, Any]]:
    """Every field of the given dataclass instances, by part, as JSON-able values; access tokens are hidden."""
    return {name: _plain(part) for name, part in parts.items()}


def _plain(part: Any) -> dict[str, Any]:
    fields = part.to_dict() if hasattr(part, "to_dict") else dataclasses.asdict(part)
    return json.loads(json.dumps(fields, default=str))


def changed(part: Any) -> dict[str, Any]:
    """The fields of a dataclass instance that differ from their defaults, as JSON-able values."""
    plain, result = _plain(part), {}
    for field in dataclasses.fields(part):
        if field.init and field.name in plain and getattr(part, field.name) != _default(field):
            result[field.name] = plain[field.name]
    return result


def describe(*classes: type) -> str:
    """All settings of the dataclasses as text: name, type, default and help; a class's own before inherited ones."""
    lines = []
    for cls in classes:
        parents = [base for base in cls.__mro__[1:] if dataclasses.is_dataclass(base)]
        inherited = {field.name for base in parents for field in dataclasses.fields(base)}
        hints = settings_of(cls)
        for field in sorted(dataclasses.fields(cls), key=lambda field: field.name in inherited):
            if field.name in hints:
                lines.append(f"{field.name} ({_name(hints[field.name])}, default {_default(field)!r})")
                lines.append(textwrap.indent(textwrap.fill(str(field.metadata.get("help", "")), 110), "    "))
    return "\n".join(lines)


def _default(field: dataclasses.Field) -> Any:
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
