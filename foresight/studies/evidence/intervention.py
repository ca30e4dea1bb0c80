"""What an edit is to those who run a model: something that can be switched off."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

from torch import Tensor


class Intervention:
    """An edit that is in effect on a model; this one is none. The model without it is the reference, with no copy."""

    def off(self) -> AbstractContextManager:
        """Context in which the model is the one before the edit, bit for bit."""
        return nullcontext()

    def answering(self, first: Tensor) -> AbstractContextManager:
        """Context of a forward pass whose answers are predicted from position `first` [B] on; ignored by default."""
        return nullcontext()


NONE = Intervention()
