"""Inference-time intervention: a constant shift of chosen heads' outputs at every position that predicts an answer.

Li et al., "Inference-Time Intervention" (arXiv 2306.03341): o_h += alpha * sigma_h * u_h at every decoding step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ...model.components import ComponentTable, features
from .intervention import HookedEdit, head_taps


class Steering(HookedEdit):
    """Shifts heads' outputs; in effect from construction until `detach`.

    During generation each forward pass shifts its last position, from which the next token is predicted. Where answers
    are given (`answering`), it shifts every position that predicts a token of the answer. The two are equivalent,
    because the cache keeps what was shifted.

    Args:
        shifts: head -> what is added to its output, float [head_dim].

    Raises:
        ConfigError: a name that is no head of the model.
    """

    def __init__(self, model: nn.Module, table: ComponentTable, shifts: Mapping[str, Tensor]):
        self._first: Tensor | None = None
        of_tap = {c.taps[0]: shifts[c.name] for c in table if c.name in shifts}
        changes = {}
        for name, taps in head_taps(table, list(shifts)).items():
            module = model.get_submodule(name)
            shift = torch.zeros(features(module)[1])
            for tap in taps:
                shift[tap.start : tap.stop] = of_tap[tap]
            changes[name] = self._shifted(shift.to(module.weight.device, module.weight.dtype))
        self.attach(model, changes)

    def _shifted(self, shift: Tensor) -> Callable[[Tensor], Tensor]:
        def change(o: Tensor) -> Tensor:  # [B, T, width]
            position = torch.arange(o.shape[1], device=o.device)
            last = torch.full((len(o),), o.shape[1] - 1, device=o.device)
            first = last if self._first is None else self._first.to(o.device)
            return torch.where((position >= first[:, None])[..., None], o + shift, o)

        return change

    @contextmanager
    def answering(self, first: Tensor) -> Iterator[None]:
        self._first = first
        try:
            yield
        finally:
            self._first = None
