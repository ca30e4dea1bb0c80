"""The localized edit that training optimizes: a rank-one change of the attention output projections.

With r = W o the output of a layer's output projection and o the outputs of its heads, the edited layer writes
r' = W o + <a, o> * (sum over the chosen heads h of W_h b_h), a change W b a^T of the weight (arXiv 2502.11447, section
4): b is zero outside the chosen heads. Adding <a, o> b to o before the projection has the same effect, and that is what
the code does: stock modules, one forward pre-hook per layer, and the projection's bias plays no part.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from ...common.errors import CheckpointError, one_of
from ...common.files import write_whole
from ...model.components import ComponentTable, features
from .intervention import HookedEdit, head_taps
from .methods import READS

Read = Literal["all", "heads"]
NAME = "foresight_edit"
"""Attribute of the model under which an edit is registered, so that a trainer finds its parameters."""


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
        return self.a if self.read == "all" else self.a.new_zeros(self.width).index_copy(0, self.columns, self.a)

    @property
    def writing(self) -> Tensor:
        """b as a vector of the layer's whole width."""
        return self.b.new_zeros(self.width).index_copy(0, self.columns, self.b)


class RankOneEdit(nn.Module, HookedEdit):
    """The edit on a model. It is in effect from construction, and its parameters are the only trainable ones.

    Args:
        model: a stock causal LM; all its parameters are frozen. The edit is registered as its module `NAME`.
        heads: names of the heads that the edit may write; layers without one are left alone.
        read: ``all`` reads the outputs of all heads of the layer, ``heads`` those of the chosen ones.
        seed: of the reading vectors; the edit itself starts at exactly zero.

    Raises:
        ConfigError: heads that the model does not have, or an unknown `read`.
    """

    def __init__(
        self, model: nn.Module, table: ComponentTable, heads: Sequence[str], read: Read = "all", seed: int = 0
    ):
        super().__init__()
        one_of("read", read, READS)
        self.heads, self.read = tuple(heads), read
        self._model = (model,)  # in a tuple, so that the model does not become a submodule of this one
        generator = torch.Generator().manual_seed(seed)
        self.layers = nn.ModuleList()
        changes: dict[str, Callable[[Tensor], Tensor]] = {}
        for name, taps in head_taps(table, heads).items():
            columns = torch.cat([torch.arange(tap.start, tap.stop) for tap in taps])
            projection = model.get_submodule(name)
            layer = RankOne(columns, features(projection)[1], read, generator).to(projection.weight.device)
            self.layers.append(layer)
            changes[name] = layer
        model.requires_grad_(False)
        model.add_module(NAME, self)
        self.attach(model, changes)

    def detach(self) -> None:
        super().detach()
        delattr(self._model[0], NAME)

    def save(self, path: str | Path) -> None:
        """Write the edit and the names of its heads as a safetensors file."""
        tensors = {name: value.detach().cpu().contiguous() for name, value in self.state_dict().items()}
        metadata = {"heads": json.dumps(self.heads), "read": self.read}
        write_whole(path, lambda temporary: save_file(tensors, temporary, metadata))

    @classmethod
    def load(cls, model: nn.Module, table: ComponentTable, path: str | Path) -> RankOneEdit:
        """Put a saved edit on a model.

        Raises:
            CheckpointError: no such file, no edit in it, or an edit of another model.
        """
        try:
            with safe_open(str(path), framework="pt") as file:
                metadata = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
            heads, read = json.loads(metadata["heads"]), metadata["read"]
        except (OSError, SafetensorError, KeyError, ValueError) as error:
            raise CheckpointError(f"{path} holds no edit ({error}); expected a file of RankOneEdit.save") from error
        edit = cls(model, table, heads, read)
        try:
            edit.load_state_dict(tensors)
        except RuntimeError as error:
            edit.detach()
            raise CheckpointError(f"{path} is an edit of another model: {error}") from error
        return edit
