"""What all edits share: they can be switched off, and they may act only where an answer is predicted."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from ...common.errors import ConfigError, one_of

if TYPE_CHECKING:  # settings of a study are checked without torch
    from torch import Tensor, nn

    from ...model.components import ComponentTable, Tap


class Intervention(ABC):
    """An edit that is in effect on a model. The model without it is the reference, so no second copy is needed."""

    @abstractmethod
    def off(self) -> AbstractContextManager:
        """Context in which the model is the one before the edit, bit for bit."""

    def answering(self, first: Tensor) -> AbstractContextManager:
        """Context of a forward pass whose answers are predicted from position `first` [B] on; ignored by default."""
        return nullcontext()


class HookedEdit(Intervention):
    """An edit that changes the inputs of output projections, which are the outputs of heads, by forward pre-hooks."""

    _on = True
    _hooks: list[Any]

    def attach(self, model: nn.Module, changes: Mapping[str, Callable[[Tensor], Tensor]]) -> None:
        """Put the edit into effect: module name -> function of the module's input [B, T, width]."""

        def hook(change: Callable[[Tensor], Tensor]) -> Callable:
            return lambda module, args: (change(args[0]), *args[1:]) if self._on else None

        self._hooks = [model.get_submodule(name).register_forward_pre_hook(hook(f)) for name, f in changes.items()]

    @contextmanager
    def off(self) -> Iterator[None]:
        before, self._on = self._on, False
        try:
            yield
        finally:
            self._on = before

    def detach(self) -> None:
        """Remove the edit from the model."""
        for hook in self._hooks:
            hook.remove()
        self._hooks = []


def head_names(table: ComponentTable) -> list[str]:
    """All heads of a model, in model order."""
    return [component.name for component in table if component.kind == "head"]


def head_taps(table: ComponentTable, heads: Sequence[str]) -> dict[str, list[Tap]]:
    """Output projection -> the parts of its input that hold the outputs of these heads, in model order.

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
