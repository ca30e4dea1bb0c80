"""`--schema`: a JSON schema of a command's recipes, by which editors complete and check them."""

from __future__ import annotations

import json
from typing import Any, Literal, get_args, get_origin

from ..policies.catalogue import parameters
from .fields import UNKNOWN, Setting, command_settings

_TYPES = {bool: "boolean", int: "integer", float: "number", str: "string", dict: "object", type(None): "null"}


def schema(command: str) -> dict[str, Any]:
    """The schema (JSON Schema draft 7). A key that is no setting is refused, as the command refuses it."""
    settings = command_settings(command)
    properties = {name: _property(setting) for name, setting in settings.items()}
    mappings = [name for name, setting in settings.items() if setting.accepts(dict) and name != "policy_params"]
    if "policy_params" in settings:
        known = {name: _parameter(parameter.kind, parameter.help) for name, (parameter, _) in parameters().items()}
        for name, (parameter, _) in parameters().items():
            if parameter.choices:
                known[name]["enum"] = [*parameter.choices, None]
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


def schema_text(command: str) -> str:
    """The schema as indented JSON."""
    return json.dumps(schema(command), indent=2)


def _property(setting: Setting) -> dict[str, Any]:
    alternatives = setting.alternatives
    if any(get_origin(hint) is Literal for hint in alternatives):  # a text beside the choices is one of them
        alternatives = tuple(hint for hint in alternatives if hint is not str)
    types = [_type(hint) for hint in alternatives]
    found: dict[str, Any] = {} if {} in types else types[0] if len(types) == 1 else {"anyOf": types}
    if setting.default is not UNKNOWN:
        found = found | {"default": setting.default}
    return found | {"description": setting.help}


def _parameter(kind: type, help: str) -> dict[str, Any]:
    if kind is list:  # of texts; one may be written without the list
        return {"type": ["array", "string", "null"], "items": {"type": "string"}, "description": help}
    return {"type": [_TYPES[kind], "null"], "description": help}


def _type(hint: Any) -> dict[str, Any]:
    """The schema of one type; empty if anything goes."""
    if get_origin(hint) is Literal:
        return {"enum": list(get_args(hint))}
    if get_origin(hint) is list:
        return {"type": "array", "items": _type(get_args(hint)[0])}
    kind = get_origin(hint) or hint
    return {"type": _TYPES[kind]} if kind in _TYPES else {}
