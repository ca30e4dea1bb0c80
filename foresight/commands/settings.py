"""The settings that a command is given: a YAML recipe, then flags that override it. Nothing heavy is imported here.

A recipe is a flat mapping of names to values. Its scalars go through the same parser as flags, so that both are checked
alike; unknown and repeated keys are errors that name file, line and the closest match. The values become dataclasses,
which check them, and plain values again, to be printed and kept.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NoReturn, TypeVar, get_args, get_origin

import yaml

from ..common.errors import ConfigError, did_you_mean, mapping
from ..training.settings import REMOVED
from .fields import Setting, default_of, settings_of
from .recipes import located

T = TypeVar("T")


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigError(message)


def parse(recipe: str | Path | None, flags: Sequence[str], classes: Sequence[type]) -> tuple[Any, ...]:
    """Build one instance of every dataclass in `classes` from a recipe (or none) and flags.

    Raises:
        ConfigError: as `read` and `build`.
    """
    values = read(recipe, flags, {name: one for cls in classes for name, one in settings_of(cls).items()})
    return tuple(build(cls, values) for cls in classes)


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


def plain(part: Any) -> dict[str, Any]:
    """Every field of a dataclass instance as JSON-able values; access tokens are hidden."""
    fields = part.to_dict() if hasattr(part, "to_dict") else dataclasses.asdict(part)
    return json.loads(json.dumps(fields, default=str))


def changed(*parts: Any) -> dict[str, Any]:
    """The fields of dataclass instances that differ from their defaults, by name, as JSON-able values."""
    return {
        field.name: values[field.name]
        for part, values in ((part, plain(part)) for part in parts)
        for field in dataclasses.fields(part)
        if field.init and field.name in values and getattr(part, field.name) != default_of(field)
    }


def show(settings: Mapping[str, Any]) -> None:
    """Print settings as a recipe has them."""
    if settings:
        print(yaml.safe_dump(dict(settings), sort_keys=False))


def read(recipe: str | Path | None, flags: Sequence[str], settings: Mapping[str, Setting]) -> dict[str, Any]:
    """The values that a recipe and flags give, by name; flags win.

    A mapping may be written flat, as ``policy_params.redraw: true`` in a recipe or ``--policy_params.redraw true``.

    Raises:
        ConfigError: the recipe cannot be read, there is no such setting (the message offers the closest), or a value
            does not have the setting's type.
    """
    parser, values = _parser(settings.values()), dict[str, Any]()
    for key, (value, line) in sorted(_lines(recipe).items(), key=lambda item: "." in item[0]):
        try:
            _put(values, key, value if _is_flat(key, settings) else _typed(parser, settings, key, value))
        except ConfigError as error:
            raise ConfigError(f"{recipe}:{line}: {error}") from error
    whole, flat = _split(flags, settings)
    found, unknown = parser.parse_known_args(whole)
    if unknown:
        if unknown[0].startswith("--"):
            raise ConfigError(f"{_unknown(_name(unknown[0]), settings)}; --settings lists all")
        raise ConfigError(f"unexpected argument {unknown[0]!r}; a setting is given as --name value")
    values |= vars(found)
    for key, value in flat.items():
        _put(values, key, value)
    return values


def _parser(settings: Iterable[Setting]) -> _Parser:
    parser = _Parser(prog="foresight", allow_abbrev=False, add_help=False, argument_default=argparse.SUPPRESS)
    for setting in settings:
        flags = [f"--{word}" for word in dict.fromkeys((setting.name, setting.name.replace("_", "-")))]
        parser.add_argument(*flags, dest=setting.name, **_rule(setting))
        if setting.accepts(bool) and setting.default is True:
            off = [f"--no_{setting.name}", f"--no-{setting.name.replace('_', '-')}"]
            parser.add_argument(*off, dest=setting.name, action="store_false")
    return parser


def _rule(setting: Setting) -> dict[str, Any]:
    """How the words after a flag become a value of the setting's type."""
    choices = next((get_args(hint) for hint in setting.alternatives if get_origin(hint) is Literal), (None,))
    if all(isinstance(choice, str) for choice in choices):
        return {"choices": choices}
    if setting.accepts(str):
        return {"type": str}
    for hint in setting.alternatives:
        if get_origin(hint) is list:
            (kind,) = get_args(hint)
            return {"nargs": "+", "type": kind if kind in (int, float) else str}
    if setting.accepts(bool):
        return {"nargs": "?", "const": True, "type": _true_or_false}
    return {"type": next((kind for kind in (int, float) if setting.accepts(kind)), str)}


def _true_or_false(word: str) -> bool:
    if word.lower() not in "true yes t y 1 false no f n 0".split():
        raise argparse.ArgumentTypeError(f"{word!r} is neither true nor false")
    return word.lower() in "true yes t y 1".split()


def _typed(parser: _Parser, settings: Mapping[str, Setting], key: str, value: Any) -> Any:
    """A recipe's value: scalars go through the parser of flags, the others have to be of a type that is accepted."""
    if key not in settings:
        raise ConfigError(_unknown(key, settings))
    if value is not None and not isinstance(value, (list, dict)):
        return getattr(parser.parse_known_args([f"--{key}={value}"])[0], key)
    if not settings[key].accepts(type(value)):
        raise ConfigError(f"{key} is {value!r}; expected {settings[key].type_name}")
    return value


def _unknown(name: str, settings: Iterable[str]) -> str:
    hint = f": {REMOVED[name]}" if name in REMOVED else did_you_mean(name, settings)
    return f"unknown setting {name!r}{hint}"


def _split(flags: Sequence[str], settings: Mapping[str, Setting]) -> tuple[list[str], dict[str, Any]]:
    """The flags of whole settings, and the values of those that are written flat."""
    whole, flat, words = list[str](), dict[str, Any](), iter(flags)
    for word in words:
        if not (word.startswith("--") and _is_flat(_name(word), settings)):
            whole.append(word)
            continue
        flag, equals, text = word.partition("=")
        value = text if equals else next(words, None)
        if value is None:
            raise ConfigError(f"{flag} has no value; a setting is given as --name value")
        try:
            flat[_name(flag)] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise ConfigError(f"{flag} is {value!r}, which is not valid YAML") from error
    return whole, flat


def _name(flag: str) -> str:
    return flag[2:].partition("=")[0].replace("-", "_")


def _is_flat(key: str, settings: Mapping[str, Setting]) -> bool:
    """Whether a key is one of a setting that is a mapping, as policy_params.redraw is."""
    name, dot, _ = key.partition(".")
    return bool(dot) and name in settings and settings[name].accepts(dict)


def _put(values: dict[str, Any], key: str, value: Any) -> None:
    name, dot, inner = key.partition(".")
    values[name] = (mapping(name, values.get(name), f"{{{inner!r}: ...}}") or {}) | {inner: value} if dot else value


def _lines(recipe: str | Path | None) -> dict[str, tuple[Any, int]]:
    """Key -> (value, line in the file) of a recipe; nothing without one."""
    if recipe is None:
        return {}
    recipe = located(recipe)
    try:
        text = recipe.read_text(encoding="utf-8")
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
        key, line = str(node.value), node.start_mark.line + 1
        if key in found:
            raise ConfigError(f"{recipe}:{line}: {key!r} is set twice (first on line {found[key][1]})")
        found[key] = (values.get(key), line)
    return found
