"""Edits, which can be switched off: at chosen heads the rank-one change that training optimizes and the constant shift.

*The optimal edit* (arXiv 2502.11447, section 4) changes the weight W of a layer's output projection by W b a^T, where b
is zero outside the chosen heads. Adding <a, o> b to the outputs o of the heads before the projection has the same
effect, and that is what the code does: stock modules, one forward pre-hook per layer, no part for the bias.

*The shift* of inference-time intervention (Li et al., arXiv 2306.03341): o_h += alpha * sigma_h * u_h at every position
that predicts a token of the answer.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from ...common.files import write_whole
from ...model.components import ComponentTable, features
from .intervention import Intervention
from .localizers import head_taps

Read = Literal["all", "heads"]
NAME = "foresight_edit"
"""Attribute of the model under which an edit is registered, so that a trainer finds its parameters."""


class HookedEdit(Intervention):
    """An edit that changes the inputs of output projections, which are the outputs of heads, by forward pre-hooks."""

    _on = True

    def attach(self, module: nn.Module, change: Callable[[Tensor], Tensor]) -> None:
        """Put `change` into effect, a function of the module's input [B, T, width]."""
        module.register_forward_pre_hook(lambda _, args: (change(args[0]), *args[1:]) if self._on else None)

    @contextmanager
    def off(self) -> Iterator[None]:
        before, self._on = self._on, False
        try:
            yield
        finally:
            self._on = before


@dataclass
class AdapterEdit(Intervention):
    """A PEFT model as an intervention."""

    model: Any

    def off(self) -> AbstractContextManager:
        return self.model.disable_adapter()


class RankOne(nn.Module):
    """The edit of one layer. Parameters, float32: a [width] or [columns], b [columns], which starts at zero."""

    def __init__(self, columns: Tensor, width: int, read: Read, generator: torch.Generator):
        super().__init__()
        self.read, self.width = read, width
        self.register_buffer("columns", columns, persistent=False)
        n = width if read == "all" else len(columns)
        self.a = nn.Parameter((2 * torch.rand(n, generator=generator) - 1) / width**0.5)  # initialised like LoRA's A
        self.b = nn.Parameter(torch.zeros(len(columns)))

    def forward(self, o: Tensor) -> Tensor:
        """The heads' outputs o [..., width] with <a, o> b added, in their dtype."""
        return o + ((o.to(self.a.dtype) @ self.reading)[..., None] * self.writing).to(o.dtype)

    @property
    def reading(self) -> Tensor:
        """a as a vector of the layer's whole width."""
        return self.a if self.read == "all" else self._whole(self.a)

    @property
    def writing(self) -> Tensor:
        """b as a vector of the layer's whole width."""
        return self._whole(self.b)

    def _whole(self, values: Tensor) -> Tensor:
        return values.new_zeros(self.width).index_copy(0, self.columns, values)


class RankOneEdit(nn.Module, HookedEdit):
    """The optimal edit. It is in effect from construction, and its parameters are the only trainable ones.

    Args:
        model: a stock causal LM; it is frozen. The edit is registered as its module `NAME`.
        heads: names of the heads that the edit may write; layers without one are left alone.
        read: ``all`` reads the outputs of all heads of the layer, ``heads`` those of the chosen ones.
        seed: of the reading vectors; the edit itself starts at exactly zero.

    Raises ConfigError for heads that the model does not have.
    """

    def __init__(
        self, model: nn.Module, table: ComponentTable, heads: Sequence[str], read: Read = "all", seed: int = 0
    ):
        super().__init__()
        self.heads, self.read = tuple(heads), read
        generator = torch.Generator().manual_seed(seed)
        self.layers = nn.ModuleList()
        for name, taps in head_taps(table, heads).items():
            columns = torch.cat([torch.arange(tap.start, tap.stop) for tap in taps])
            projection = model.get_submodule(name)
            layer = RankOne(columns, features(projection)[1], read, generator).to(projection.weight.device)
            self.layers.append(layer)
            self.attach(projection, layer)
        model.requires_grad_(False)
        model.add_module(NAME, self)

    def save(self, path: str | Path) -> None:
        """Write the edit and the names of its heads as a safetensors file."""
        tensors = {name: value.detach().cpu().contiguous() for name, value in self.state_dict().items()}
        metadata = {"heads": json.dumps(self.heads), "read": self.read}
        write_whole(path, lambda temporary: save_file(tensors, temporary, metadata))


class Steering(HookedEdit):
    """The shift; in effect from construction.

    During generation each forward pass shifts its last position. Where answers are given (`answering`), it shifts every
    position that predicts a token of them, which is equivalent, because the cache keeps what was shifted.

    Args:
        shifts: head -> what is added to its output, float [head_dim]. Raises ConfigError for other names.
    """

    def __init__(self, model: nn.Module, table: ComponentTable, shifts: Mapping[str, Tensor]):
        self._first: Tensor | None = None
        of_tap = {c.taps[0]: shifts[c.name] for c in table if c.name in shifts}
        for name, taps in head_taps(table, list(shifts)).items():
            module = model.get_submodule(name)
            shift = torch.zeros(features(module)[1])
            for tap in taps:
                shift[tap.start : tap.stop] = of_tap[tap]
            self.attach(module, self._shifted(shift.to(module.weight.device, module.weight.dtype)))

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
