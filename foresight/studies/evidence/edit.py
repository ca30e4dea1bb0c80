"""The localized edit that training makes as good as it can be: a rank-one change of the attention output projections.

With r = W o the output projection of a layer and o the outputs of its heads, the edited layer writes
r' = W o + <a, o> * (sum over the chosen heads h of W_h b_h), a change W b a^T of the weight (arXiv 2502.11447, section
4): b is zero outside the chosen heads. It is the same as adding <a, o> b to o before the projection, which is
how it is done here: stock modules, one forward pre-hook a layer, and a projection's bias plays no part.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from ...common.errors import CheckpointError, one_of
from ...common.files import write_whole
from ...model.components import ComponentTable, features, stored_transposed
from .intervention import Intervention, Switch, head_taps

Read = Literal["all", "heads"]
READS = ("all", "heads")
NAME = "foresight_edit"
"""Attribute of the model under which an edit is registered, so that a trainer finds its parameters."""


class RankOne(nn.Module):
    """<a, o> b of one layer. Parameters, float32: a [width] or [columns], b [columns], which starts at zero."""

    def __init__(self, columns: Tensor, width: int, read: Read, generator: torch.Generator):
        super().__init__()
        self.read, self.width = read, width
        self.register_buffer("columns", columns, persistent=False)
        n = width if read == "all" else len(columns)
        self.a = nn.Parameter((2 * torch.rand(n, generator=generator) - 1) / width**0.5)  # as LoRA's reading side
        self.b = nn.Parameter(torch.zeros(len(columns)))

    def forward(self, o: Tensor) -> Tensor:
        """What is added to the heads' outputs o [..., width], in their dtype."""
        return ((o.to(self.a.dtype) @ self.reading)[..., None] * self.writing).to(o.dtype)

    @property
    def reading(self) -> Tensor:
        """a as a vector of the layer's whole width."""
        return self.a if self.read == "all" else self.a.new_zeros(self.width).index_copy(0, self.columns, self.a)

    @property
    def writing(self) -> Tensor:
        """b as a vector of the layer's whole width."""
        return self.b.new_zeros(self.width).index_copy(0, self.columns, self.b)


class RankOneEdit(nn.Module, Intervention):
    """The edit on a model: it is in effect from construction on, and its parameters are the only trainable ones.

    Args:
        model: a stock causal LM; all its parameters are frozen. The edit is registered as its module `NAME`.
        heads: names of the heads that the edit may write; layers without one are left alone.
        read: ``all`` reads the outputs of all heads of the layer, ``heads`` those of the chosen ones.
        seed: of the reading vectors; the edit itself starts at exactly zero.

    Raises:
        ConfigError: `heads` that the model does not have, or another `read`.
    """

    def __init__(
        self, model: nn.Module, table: ComponentTable, heads: Sequence[str], read: Read = "all", seed: int = 0
    ):
        super().__init__()
        one_of("read", read, READS)
        self.heads, self.read = tuple(heads), read
        self._switch = Switch()
        self._model = (model,)  # in a tuple: not a module of this one
        self._hooks: list[Any] = []
        generator = torch.Generator().manual_seed(seed)
        self.layers = nn.ModuleList()
        self._projections: list[str] = []
        for name, taps in head_taps(table, heads).items():
            columns = torch.cat([torch.arange(tap.start, tap.stop) for tap in taps])
            projection = model.get_submodule(name)
            self.layers.append(RankOne(columns, features(projection)[1], read, generator).to(projection.weight.device))
            self._projections.append(name)
        model.requires_grad_(False)
        model.add_module(NAME, self)
        for name, layer in zip(self._projections, self.layers, strict=True):
            self._hooks.append(model.get_submodule(name).register_forward_pre_hook(self._hook(layer)))

    def _hook(self, layer: nn.Module):
        def add(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
            return (args[0] + layer(args[0]), *args[1:]) if self._switch.on else None

        return add

    def off(self) -> AbstractContextManager:
        return self._switch.off()

    def detach(self) -> None:
        """Take the edit off the model for good."""
        for hook in self._hooks:
            hook.remove()
        self._hooks = []
        delattr(self._model[0], NAME)

    def weight_changes(self) -> dict[str, Tensor]:
        """Output projection -> W b a^T, float32, laid out as the module stores its weight."""
        found = {}
        for name, layer in zip(self._projections, self.layers, strict=True):
            module = self._model[0].get_submodule(name)
            weight = module.weight.detach().float()
            a, b = layer.reading.detach(), layer.writing.detach()
            found[name] = torch.outer(a, b @ weight) if stored_transposed(module) else torch.outer(weight @ b, a)
        return found

    @torch.no_grad()
    def merge(self) -> None:
        """Write the edit into the model's weights and take it off: the same function, to rounding, of a stock model."""
        for name, change in self.weight_changes().items():
            weight = self._model[0].get_submodule(name).weight
            weight.copy_(weight.float() + change)
        self.detach()

    def save(self, path: str | Path) -> None:
        """Write the edit as a safetensors file, which names its heads."""
        tensors = {name: value.detach().cpu().contiguous() for name, value in self.state_dict().items()}
        metadata = {"heads": json.dumps(self.heads), "read": self.read}
        write_whole(path, lambda temporary: save_file(tensors, temporary, metadata))

    @classmethod
    def load(cls, model: nn.Module, table: ComponentTable, path: str | Path) -> RankOneEdit:
        """Put a saved edit on a model.

        Raises:
            CheckpointError: no such file, no edit in it, or one of another model.
        """
        try:
            with safe_open(str(path), framework="pt") as file:
                metadata = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
            heads, read = json.loads(metadata["heads"]), metadata["read"]
        except (OSError, SafetensorError, KeyError, ValueError) as error:
            raise CheckpointError(f"{path} holds no edit ({error}); expected what RankOneEdit.save wrote") from error
        edit = cls(model, table, heads, read)
        try:
            edit.load_state_dict(tensors)
        except RuntimeError as error:
            edit.detach()
            raise CheckpointError(f"{path} is an edit of another model: {error}") from error
        return edit
