"""What a command takes, told in two forms: `--settings`, as text, and `--schema`, a JSON schema for editors."""

from __future__ import annotations

import json
import textwrap
from typing import Any, Literal, get_args, get_origin

from ..policies.catalogue import GRANULARITIES, Parameter, parameters
from ..training.settings import GROUPS, MaskSettings
from .fields import UNKNOWN, Setting, command_classes, command_settings, settings_of, trl_of

WIDTH = 100
_JSON_TYPES = {bool: "boolean", int: "integer", float: "number", str: "string", dict: "object", type(None): "null"}


def listing(command: str, word: str = "") -> str:
    """Text for `--settings WORD`.

    Args:
        word: "" for our own settings in groups; "policy_params" for those of every policy; "trl" for TRL's; any other
            word for every setting whose name or help has it.
    """
    groups = {name: {one.name: _setting(one) for one in group} for name, group in _groups(command).items()}
    own = {name: text for group in groups.values() for name, text in group.items()}
    runs, trl = "policy_params" in own, [_setting(setting) for setting in trl_of(command).values()]
    params = [_policy_param(name, *found) for name, found in parameters().items()] if runs else []
    if word == "policy_params" and runs:
        return "\n".join([_heading("Settings of policies, set as --policy_params.NAME VALUE"), *params])
    if word == "trl" and trl:
        return "\n".join([_heading("Settings of TRL's SFTConfig"), *trl])
    if word:
        found = [text for text in [*own.values(), *params, *trl] if word.lower() in text.lower()]
        return "\n".join(found) or f"No setting of {command} has {word!r} in its name or help."
    parts = ["\n".join([_heading(name), *group.values()]) for name, group in groups.items()]
    more = f"`--settings WORD` shows every setting that has WORD in its name or help{'.' if not trl else ','}"
    if trl:
        more += f" `--settings policy_params` those of each policy, and `--settings trl` TRL's {len(trl)}, such as "
        more += "learning_rate, max_steps and output_dir, which are all valid too."
    return "\n\n".join([*parts, textwrap.fill(more, WIDTH)])


def _groups(command: str) -> dict[str, list[Setting]]:
    """Heading -> settings."""
    groups: dict[str, list[Setting]] = {}
    for cls in command_classes(command):
        settings = settings_of(cls)
        if cls is MaskSettings:
            groups |= {name: [settings[one] for one in names] for name, names in GROUPS.items()}
        else:
            groups[{"DataConfig": "data", "ModelConfig": "model"}.get(cls.__name__, command)] = list(settings.values())
    first = next(iter(GROUPS))
    return {first: groups.pop(first)} | groups if first in groups and command != "track" else groups


def _heading(text: str) -> str:
    text = text[0].upper() + text[1:]
    return f"{text}\n{'=' * len(text)}"


def _setting(setting: Setting) -> str:
    default = "" if setting.default is UNKNOWN else f", default {_shown(setting.default)}"
    return _entry(f"{setting.name} ({' or '.join(_types(setting))}{default})", setting.help)


def _policy_param(name: str, parameter: Parameter, takers: list[tuple[str, str]]) -> str:
    default = "required" if parameter.required else f"default {_shown(parameter.default)}"
    over = [granularity for granularity in GRANULARITIES if granularity in {grain for _, grain in takers}]
    where = "" if len(over) == len(GRANULARITIES) else f", over {' or '.join(over)}"
    help = f"{parameter.help} Taken by {', '.join(dict.fromkeys(policy for policy, _ in takers))}{where}."
    return _entry(f"policy_params.{name} ({_type(parameter.kind)}, {default})", help)


def _entry(title: str, help: str) -> str:
    title = textwrap.fill(title, WIDTH, subsequent_indent="    ", break_long_words=False)
    text = textwrap.fill(" ".join(help.split()), WIDTH, initial_indent="    ", subsequent_indent="    ")
    return f"{title}\n{text}" if text else title


def _types(setting: Setting) -> list[str]:
    choices = [hint for hint in setting.alternatives if get_origin(hint) is Literal]
    if choices:
        return [str(value) for value in get_args(choices[0])]
    written = [hint for hint in setting.alternatives if hint is not type(None)]
    if setting.accepts(dict):  # as text too, but only JSON text of a mapping
        written = [hint for hint in written if hint is not str]
    return [_type(hint) for hint in written]


def _type(hint: Any) -> str:
    if get_origin(hint) is list:
        return f"list of {_type(get_args(hint)[0])}"
    plain = get_origin(hint) or hint
    return {dict: "mapping", str: "text", Any: "any"}.get(plain, getattr(plain, "__name__", str(plain)))


def _shown(value: Any) -> str:
    """A default as it is written in a recipe."""
    return "null" if value is None else value if isinstance(value, str) and value else json.dumps(value)


def schema(command: str) -> dict[str, Any]:
    """The schema (JSON Schema draft 7). A key that is no setting is refused, as the command refuses it."""
    settings = command_settings(command)
    properties = {name: _property(setting) for name, setting in settings.items()}
    mappings = [name for name, setting in settings.items() if setting.accepts(dict) and name != "policy_params"]
    if "policy_params" in settings:
        known = {name: _parameter(parameter) for name, (parameter, _) in parameters().items()}
        properties["policy_params"] |= {"properties": known, "additionalProperties": False}
        properties |= {f"policy_params.{name}": one for name, one in known.items()}
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": f"Recipe of foresight {command}",
        "type": "object",
        "properties": properties,
        "patternProperties": {rf"^({'|'.join(mappings)})\.": {}} if mappings else {},
        "additionalProperties": False,
    }


def _property(setting: Setting) -> dict[str, Any]:
    alternatives = setting.alternatives
    if any(get_origin(hint) is Literal for hint in alternatives):  # a text beside the choices is one of them
        alternatives = tuple(hint for hint in alternatives if hint is not str)
    types = [_json_type(hint) for hint in alternatives]
    found: dict[str, Any] = {} if {} in types else types[0] if len(types) == 1 else {"anyOf": types}
    if setting.default is not UNKNOWN:
        found = found | {"default": setting.default}
    return found | {"description": setting.help}


def _parameter(parameter: Parameter) -> dict[str, Any]:
    found: dict[str, Any] = {"type": [_JSON_TYPES.get(parameter.kind), "null"]}
    if parameter.kind is list:  # of texts; one may be written without the list
        found = {"type": ["array", "string", "null"], "items": {"type": "string"}}
    choices = {"enum": [*parameter.choices, None]} if parameter.choices else {}
    return found | {"description": parameter.help} | choices


def _json_type(hint: Any) -> dict[str, Any]:
    """The schema of one type; empty if anything goes."""
    if get_origin(hint) is Literal:
        return {"enum": list(get_args(hint))}
    if get_origin(hint) is list:
        return {"type": "array", "items": _json_type(get_args(hint)[0])}
    kind = get_origin(hint) or hint
    return {"type": _JSON_TYPES[kind]} if kind in _JSON_TYPES else {}
