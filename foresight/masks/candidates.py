"""Candidates chosen by hand: the modules and layers that masks may take, in PEFT's words and by PEFT's rules.

`target_modules` and `exclude_modules` are lists of module names or of their ends, such as ["q_proj", "mlp.down_proj"],
or a text: a regular expression for whole names (and "all-linear", all that masks can touch). `layers_to_transform` is
a layer or a list of layers.

A component is a candidate if all modules in which it has weights are allowed, so that nothing is trained that was not
named. A head needs query and output projection (without GQA key and value as well), a KV group key and value, an MLP
block gate, up and down. Single vectors, rows and weights lie in one module each.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np

from ..common.errors import ConfigError, did_you_mean, mapping
from ..model.components import ComponentTable
from ..model.numbering import Numbering, Target

ALL = "all-linear"
MODULES, LAYERS, EXCLUDED = KEYS = ("target_modules", "layers_to_transform", "exclude_modules")


def checked(value: Any) -> dict[str, Any] | None:
    """The setting `candidates`, JSON text of a mapping too; None if it restricts nothing.

    Raises:
        ConfigError: not such a mapping, an unknown key, or a value of another type.
    """
    given = mapping("candidates", value, '{"target_modules": ["q_proj", "o_proj"]}') or {}
    for key, one in given.items():
        if key not in KEYS:
            raise ConfigError(f"candidates has no {key!r}{did_you_mean(key, KEYS)}; expected {', '.join(KEYS)}")
        kind, items = (int, one if isinstance(one, list) else [one]) if key == LAYERS else (str, one)
        text = isinstance(one, str) and key != LAYERS
        fits = text or (isinstance(items, list) and all(isinstance(i, kind) and i is not True for i in items))
        if one is not None and (not fits or not (items or key == EXCLUDED)):
            expected = "a layer or a list of them" if kind is int else "a list of module names or a regular expression"
            raise ConfigError(f"candidates.{key} is {one!r}; expected {expected}")
    return {key: one for key, one in given.items() if one is not None} or None


def restrict(numbers: Numbering, candidates: dict[str, Any]) -> None:
    """Let masks take only what a checked setting names; every unit keeps its number.

    Raises:
        ConfigError: a name or layer that the model does not have, or one of which nothing is left to choose; the
            message says what has to be allowed with it.
    """
    named = _found(MODULES, candidates.get(MODULES, ALL), numbers)
    excluded = set().union(*_found(EXCLUDED, candidates.get(EXCLUDED, []), numbers).values())
    layers, known = candidates.get(LAYERS), {_layer(target) for target in numbers.targets}
    chosen = known if layers is None else {layers} if isinstance(layers, int) else set(layers)
    if beyond := sorted(chosen - known):
        raise ConfigError(f"candidates.{LAYERS} has {beyond[0]}; the model has layers 0 to {max(known)}")
    allowed = set().union(*named.values()) - excluded
    numbers.candidates = tuple(t for t in numbers.targets if t in allowed and _layer(t) in chosen)
    used = {target for target in numbers.candidates if _is_used(target, numbers)}
    for entry, targets in named.items():
        if used.isdisjoint(targets):
            raise ConfigError(f"candidates leave nothing of {entry!r} to choose from; {_together(targets, numbers)}")


def _found(key: str, value: str | list[str], numbers: Numbering) -> dict[str, set[Target]]:
    """What each entry of a setting names. Raises ConfigError for one that names nothing."""
    matches: Callable[[str, str], Any] = re.fullmatch
    if isinstance(value, list):
        entries, matches = value, lambda entry, module: module == entry or module.endswith(f".{entry}")
    else:
        entries = [value]
        if value == ALL and key == MODULES:
            return {ALL: set(numbers.targets)}
    found = {}
    for entry in entries:
        try:
            found[entry] = {target for target in numbers.targets if matches(entry, target.module)}
        except re.error as error:
            raise ConfigError(f"candidates.{key} {value!r} is no regular expression ({error})") from error
        if not found[entry]:
            ends = dict.fromkeys(".".join(t.module.split(".")[-n:]) for n in (1, 2, 99) for t in numbers.targets)
            text = isinstance(value, str)
            raise ConfigError(
                f"candidates.{key}: {entry!r}{', a regular expression for whole names,' if text else ''} names no "
                f"Linear that masks can touch{did_you_mean(entry, ends)}; there are "
                f"{', '.join(_leaves(numbers.targets))} "
                f"(embeddings, norms and the head are never trained){f'; a list is written [{entry}]' if text else ''}"
            )
    return found


def _layer(target: Target) -> int:
    return int(re.findall(r"\.(\d+)\.", target.module)[0])


def _leaves(targets: Any) -> list[str]:
    return list(dict.fromkeys(target.module.rpartition(".")[2] for target in targets))


def _is_used(target: Target, numbers: Numbering) -> bool:
    """Whether a candidate has weights there."""
    return not isinstance(numbers, ComponentTable) or bool(numbers.allowed[numbers.owner[target.ids]].any())


def _together(targets: set[Target], numbers: Numbering) -> str:
    """What to do about modules of which nothing is left."""
    first = min(targets, key=lambda target: target.offset)
    modules = [first]
    if isinstance(numbers, ComponentTable):
        owners = np.unique(numbers.owner[first.ids])
        modules = [t for t in numbers.targets if np.isin(numbers.owner[t.ids], owners).any()]
    if len(modules) == 1:
        return "all of it is excluded, or in other layers"
    return (
        f"its components consist of {', '.join(_leaves(modules))} together: allow all of these, or use granularity "
        "'vectors', 'rows' or 'weights', whose units lie in one module each"
    )
