"""What all edits share: they can be switched off, and they may act only where an answer is predicted."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext

from torch import Tensor

from ...common.errors import ConfigError, one_of
from ...model.components import ComponentTable, Tap


class Intervention(ABC):
    """An edit that is in effect on a model; the model without it is the reference, so there is no second copy."""

    @abstractmethod
    def off(self) -> AbstractContextManager:
        """Context in which the model is the one before the edit, bit for bit."""

    def answering(self, first: Tensor) -> AbstractContextManager:
        """Context of a forward whose answers are predicted from position `first` [B] on; by default it is all one."""
        return nullcontext()


class Switch:
    """A flag that a context puts down for a while."""

    def __init__(self) -> None:
        self.on = True

    @contextmanager
    def off(self) -> Iterator[None]:
        before, self.on = self.on, False
        try:
            yield
        finally:
            self.on = before


def head_names(table: ComponentTable) -> list[str]:
    """All heads of a model, in model order."""
    return [component.name for component in table if component.kind == "head"]


def head_taps(table: ComponentTable, heads: Sequence[str]) -> dict[str, list[Tap]]:
    """Output projection -> where in its input the outputs of these heads are, in model order.

    Raises:
        ConfigError: no head, one named twice, or (UnknownNameError) a name that is no head of this model.
    """
    if not heads or len(set(heads)) < len(heads):
        raise ConfigError(f"heads are {list(heads)}; expected at least one head, each once")
    known = head_names(table)
    wanted = {one_of("head", name, known) for name in heads}
    found: dict[str, list[Tap]] = {}
    for component in table:
        if component.name in wanted:
            (tap,) = component.taps
            found.setdefault(tap.module, []).append(tap)
    return found
