"""The tasks by name."""

from __future__ import annotations

from ..errors import UnknownNameError
from .arithmetic import Arithmetic
from .base import Task
from .boolean import Boolean
from .docstring import Docstring
from .gender import Gender
from .greater_than import GreaterThan
from .induction import Induction
from .ioi import IndirectObject
from .reverse import Reverse

_TASKS: dict[str, type[Task]] = {
    cls.name: cls for cls in (IndirectObject, GreaterThan, Docstring, Gender, Boolean, Arithmetic, Reverse, Induction)
}
TASKS = tuple(_TASKS)


def task(name: str) -> Task:
    """The task called `name`. Raises UnknownNameError, which offers the closest name."""
    if name not in _TASKS:
        raise UnknownNameError("task", name, TASKS)
    return _TASKS[name]()
