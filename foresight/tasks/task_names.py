"""The tasks by name. Only the module of the task that is asked for is imported."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from ..common.errors import ConfigError, one_of

if TYPE_CHECKING:
    from .data.source import Source
    from .examples import Task

_TRAINED = {
    "ioi": "ioi:IndirectObject",
    "greater_than": "greater_than:GreaterThan",
    "docstring": "docstring:Docstring",
    "gender": "gender:Gender",
    "boolean": "boolean:Boolean",
    "arithmetic": "numbers:Arithmetic",
    "reverse": "lists:Reverse",
    "induction": "lists:Induction",
}
_NOVEL = {
    "first": "lists:First",
    "second": "lists:Second",
    "repeated": "lists:Repeated",
    "order": "numbers:Order",
    "parity": "numbers:Parity",
    "kind": "kind:Kind",
}
_DATA = {
    "openbookqa": "data.choices:OpenBookQA",
    "rte": "data.glue:Rte",
    "sst2": "data.glue:Sst2",
    "winogrande": "data.choices:Winogrande",
    "fever": "data.kilt:Fever",
    "zsre": "data.kilt:ZsRE",
    "sentiment": "data.sentiment:Sentiment",
}
_CLASSES = _TRAINED | _NOVEL | _DATA
"""Every named task as module:class; a new one needs a row here."""

TASKS = (*_TRAINED, *_NOVEL)
"""Generated tasks, which need no data."""
NOVEL_TASKS = tuple(_NOVEL)
"""Generated tasks whose prompts the shipped model has never seen, for studies of learning something new."""
DATA_TASKS = tuple(_DATA)
"""Tasks over public data sets."""


def task(name: str, source: Source | str | None = None, labels: Mapping[str, str] | None = None) -> Task:
    """Return the task of that name, or the user's own task in the JSONL file or folder at that path.

    Args:
        source, labels: for tasks over data sets only: where the rows are, if not on the Hub, and other words for the
            labels (see `DataTask`).

    Raises:
        UnknownNameError: neither a task nor a path; the message offers the closest name.
        ConfigError: a source or labels for a generated task.
    """
    if name not in _CLASSES and Path(name).exists() and source is None and labels is None:
        return _load("user_task:UserTask")(name)
    one_of("task", name, _CLASSES)
    if name in _DATA:
        return _load(_DATA[name])(source, labels)
    if source is not None or labels is not None:
        raise ConfigError(f"task {name!r} is generated: leave out source and labels, which only data tasks take")
    return _load(_CLASSES[name])()


def _load(path: str):
    module, _, cls = path.partition(":")
    return getattr(import_module(f".{module}", __package__), cls)
