"""Tasks: training data, contrast pairs and a metric. Generated ones, ones over public data, and users' own files.

`task(name)` finds one. Importing this package imports no task, and neither `datasets` nor transformers.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..common.errors import ConfigError, one_of

if TYPE_CHECKING:
    from .examples import Task
    from .read_table import Source

_SENTENCES = ("ioi", "greater_than", "docstring", "gender")
_TRAINED = (*_SENTENCES, "boolean", "arithmetic", "reverse", "induction")
NOVEL_TASKS = ("first", "second", "repeated", "order", "parity", "kind")
"""Generated tasks whose prompts the shipped model has never seen, for studies of learning something new."""
TASKS = (*_TRAINED, *NOVEL_TASKS)
"""Generated tasks, which need no data; a new one needs its name here."""
DATA_TASKS = ("openbookqa", "rte", "sst2", "winogrande", "fever", "zsre", "sentiment")
"""Tasks over public data sets; a new one needs its name here."""


def task(name: str, source: Source | str | None = None, labels: Mapping[str, str] | None = None) -> Task:
    """Return the task of that name, or the user's own task in the JSONL file or folder at that path.

    Args:
        source, labels: for tasks over data sets only: where the rows are, if not on the Hub, and other words for the
            labels (see `DataTask`).

    Raises:
        UnknownNameError: neither a task nor a path; the message offers the closest name.
        ConfigError: a source or labels for a generated task.
    """
    plain = source is None and labels is None
    if name not in (*TASKS, *DATA_TASKS) and Path(name).exists() and plain:
        return _named("user_task", "UserTask")(name)
    if one_of("task", name, (*TASKS, *DATA_TASKS)) in DATA_TASKS:
        return _named("public_data", "PUBLIC")[name](source, labels)
    if not plain:
        raise ConfigError(f"task {name!r} is generated: leave out source and labels, which only data tasks take")
    _named("sentences" if name in _SENTENCES else "puzzles", "generated")  # puts it into GENERATED
    return _named("generated_task", "GENERATED")[name]


def _named(module: str, what: str) -> Any:
    """What a module of this package holds, which is imported only now."""
    return getattr(import_module(f".{module}", __package__), what)
