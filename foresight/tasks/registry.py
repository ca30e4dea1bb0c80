"""The tasks by name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ..common.errors import ConfigError, one_of
from .arithmetic import Arithmetic
from .base import Task
from .boolean import Boolean
from .data import DataTask, Fever, OpenBookQA, Rte, Sentiment, Source, Sst2, Winogrande, ZsRE
from .docstring import Docstring
from .gender import Gender
from .greater_than import GreaterThan
from .induction import Induction
from .ioi import IndirectObject
from .kind import Kind
from .lists import First, Repeated, Second
from .numbers import Order, Parity
from .own import OwnTask
from .reverse import Reverse

_TRAINED: dict[str, type[Task]] = {
    cls.name: cls for cls in (IndirectObject, GreaterThan, Docstring, Gender, Boolean, Arithmetic, Reverse, Induction)
}
_NOVEL: dict[str, type[Task]] = {cls.name: cls for cls in (First, Second, Repeated, Order, Parity, Kind)}
_GENERATED = _TRAINED | _NOVEL
_DATA: dict[str, type[DataTask]] = {
    cls.name: cls for cls in (OpenBookQA, Rte, Sst2, Winogrande, Fever, ZsRE, Sentiment)
}
TASKS = tuple(_GENERATED)
"""Names of the generated tasks, which need no data."""
NOVEL_TASKS = tuple(_NOVEL)
"""Those among them whose prompts the shipped model has never seen: for studies of learning something new."""
DATA_TASKS = tuple(_DATA)
"""Names of the tasks over public data sets."""


def task(name: str, source: Source | str | None = None, labels: Mapping[str, str] | None = None) -> Task:
    """The task called `name`, or in the JSONL file or folder of that path (see `tasks.own`).

    source, labels: of a data task, as `DataTask` takes them: where its rows lie if not on the hub, and other words for
        its labels.

    Raises UnknownNameError, which offers the closest name; ConfigError for a generated task with a source or labels.
    """
    if name in _DATA:
        return _DATA[name](source, labels)
    if name not in _GENERATED and Path(name).exists() and source is None and labels is None:
        return OwnTask(name)
    one_of("task", name, (*TASKS, *DATA_TASKS))
    if source is not None or labels is not None:
        raise ConfigError(f"task {name!r} is generated: leave out source and labels, which only data tasks take")
    return _GENERATED[name]()
