"""Inference-time intervention: a constant shift of chosen heads' outputs wherever the next token of an answer is made.

Li et al., "Inference-Time Intervention" (arXiv 2306.03341): o_h += alpha * sigma_h * u_h at every decoding step.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ...model.components import ComponentTable, features
from .intervention import Intervention, Switch, head_taps


class Steering(Intervention):
    """Shifts heads' outputs; in effect from construction until `detach`.

    In generation the last position of each forward is shifted, which is the one that the next token is made from; where
    answers are given (`answering`), every position from the first one on that predicts a token of the answer. The two
    are the same: what was shifted once stays in the cache.

    Args:
        shifts: head -> what is added to its output, float [head_dim].

    Raises:
        ConfigError: a name that is no head of the model.
    """

    def __init__(self, model: nn.Module, table: ComponentTable, shifts: Mapping[str, Tensor]):
        self._switch = Switch()
        self._first: Tensor | None = None
        self._hooks = []
        of_tap = {c.taps[0]: shifts[c.name] for c in table if c.name in shifts}
        for name, taps in head_taps(table, list(shifts)).items():
            module = model.get_submodule(name)
            shift = torch.zeros(features(module)[1])
            for tap in taps:
                shift[tap.start : tap.stop] = of_tap[tap]
            weight = module.weight
            self._hooks.append(module.register_forward_pre_hook(self._hook(shift.to(weight.device, weight.dtype))))

    def _hook(self, shift: Tensor):
        def add(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
            if not self._switch.on:
                return None
            o = args[0]  # [B, T, width]
            position = torch.arange(o.shape[1], device=o.device)
            last = torch.full((len(o),), o.shape[1] - 1, device=o.device)
            first = last if self._first is None else self._first.to(o.device)
            return (torch.where((position >= first[:, None])[..., None], o + shift, o), *args[1:])

        return add

    def off(self) -> AbstractContextManager:
        return self._switch.off()

    @contextmanager
    def answering(self, first: Tensor) -> Iterator[None]:
        self._first = first
        try:
            yield
        finally:
            self._first = None

    def detach(self) -> None:
        """Take the shift off the model."""
        for hook in self._hooks:
            hook.remove()
