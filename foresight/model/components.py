"""Components: the units that can be masked, and where each lies in the model's weights and activations.

A *row* of a Linear is the weights into one output feature, a *column* those out of one input feature. Rows of the
query, key, value, gate and up projections and columns of the output and down projections all have length d_model: they
are the *vectors* that a bank can hold. Rows and columns are in feature space; only `stored_transposed` knows whether a
module stores its weight transposed (GPT-2's Conv1D).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from ..common.errors import ArchitectureError, ConfigError
from .architectures import Architecture, architecture_of
from .numbering import Numbering, Target


@dataclass(frozen=True)
class Slice:
    """Vectors [start, stop) of one target Linear: rows (output features), columns (input features) or entries."""

    module: str
    axis: Literal["row", "column", "entry"]
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True)
class Tap:
    """Where a component's activation can be read: features [start, stop) of a module's input or output."""

    module: str
    side: Literal["input", "output"]
    start: int
    stop: int


@dataclass(frozen=True)
class Component:
    """An attention head, a KV group or an MLP block.

    `slices` are the weights that training it changes, `taps` the activations that patching it replaces. A head's
    output-side slice (its columns of the output projection) reads exactly the features of its tap.
    """

    name: str
    layer: int
    kind: str
    index: int
    slices: tuple[Slice, ...]
    taps: tuple[Tap, ...]

    @property
    def n_vectors(self) -> int:
        return sum(len(s) for s in self.slices)


class ComponentTable(Numbering):
    """All components of one model, in model order, with their metadata as arrays.

    Attributes:
        components: n of `Component`; together they contain every vector of the targets.
        layer, index, vectors: int32 arrays [n]; kind, name: string arrays [n].
    """

    def __init__(self, components: list[Component], targets: Sequence[Target], d_model: int, model_parameters: int):
        super().__init__(targets, d_model, model_parameters)
        self.components: Sequence[Component] = tuple(components)
        self.layer = np.array([c.layer for c in components], np.int32)
        self.index = np.array([c.index for c in components], np.int32)
        self.vectors = np.array([c.n_vectors for c in components], np.int32)
        self.kind = np.array([c.kind for c in components])

    def __len__(self) -> int:
        return len(self.layer)

    def __iter__(self) -> Iterator[Component]:
        return iter(self.components)

    @cached_property
    def name(self) -> np.ndarray:
        return np.array([c.name for c in self.components])

    def names(self, components) -> list[str]:
        """Names of the components at the given positions."""
        return [self.components[i].name for i in components]

    @cached_property
    def id_of(self) -> Mapping[str, int]:
        """Component name -> position in the table."""
        return {c.name: i for i, c in enumerate(self.components)}

    @cached_property
    def hash(self) -> str:
        """Hex digest (16 characters) of names, slices and d_model."""
        text = json.dumps([self.d_model, [[c.name, [list(vars(s).values()) for s in c.slices]] for c in self]])
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @cached_property
    def owner(self) -> np.ndarray:
        """The component that each vector belongs to, int64 [n_vectors]."""
        owner = np.empty(self.n_vectors, np.int64)
        for i in range(len(self)):
            owner[self.vector_ids([i])] = i
        return owner

    @cached_property
    def allowed(self) -> np.ndarray:
        """Whether masks may take each component, bool [n]: all its targets are candidates."""
        allowed = np.ones(len(self), bool)
        for target in set(self.targets).difference(self.candidates):
            allowed[self.owner[target.ids]] = False
        return allowed

    @property
    def available(self) -> int:
        return int(self.vectors[self.allowed].sum()) if self.restricted else self.n_vectors

    @property
    def smallest(self) -> int:
        return int(self.vectors[self.allowed].min() if self.restricted else self.vectors.min())

    def vector_ids(self, components) -> np.ndarray:
        """Return the sorted int64 ids of all vectors of the components at the given positions."""
        parts = [
            np.arange(s.start, s.stop, dtype=np.int64) + self.target_of[s.module].offset
            for i in components
            for s in self.components[i].slices
        ]
        return np.sort(np.concatenate(parts)) if parts else np.zeros(0, np.int64)


def stored_transposed(module: nn.Module) -> bool:
    """True if the module stores its weight as [in, out] (Conv1D) rather than [out, in] (Linear)."""
    return isinstance(module, Conv1D)


def turned(matrix: Tensor, module: nn.Module) -> Tensor:
    """Turn a matrix shaped like the module's stored weight to [out, in], or back. Returns a view."""
    return matrix.T if stored_transposed(module) else matrix


def features(module: nn.Module) -> tuple[int, int]:
    """(output features, input features) of a Linear or Conv1D, even if ZeRO-3 has sharded its weight."""
    shape = tuple(getattr(module.weight, "ds_shape", module.weight.shape))
    return (shape[1], shape[0]) if stored_transposed(module) else (shape[0], shape[1])


def component_table(model: nn.Module, mlp_block: int | None = None) -> ComponentTable:
    """List the components of a stock Hugging Face causal LM.

    Args:
        model: of any family in `foresight.model.architectures.ARCHITECTURES`; it is not changed.
        mlp_block: neurons per MLP block; a layer's last block is smaller if the width is not a multiple. None takes
            the largest power of two at which a block has no more vectors than a head, and at least one neuron.

    Raises:
        ArchitectureError: an unknown family, or weights whose shapes do not match its description.
        ConfigError: `mlp_block` < 1.
    """
    if mlp_block is not None and mlp_block < 1:
        raise ConfigError(f"mlp_block is {mlp_block}; expected at least 1 neuron; leave it out for the default width")
    arch = architecture_of(model)
    config = model.config.get_text_config()
    d_model, heads = config.hidden_size, config.num_attention_heads
    kv_heads = getattr(config, "num_key_value_heads", None) or heads
    head_dim = getattr(config, "head_dim", None) or d_model // heads
    components: list[Component] = []
    targets: list[Target] = []
    offset = 0
    for layer in range(len(model.get_submodule(arch.layers))):
        prefix = f"{arch.layers}.{layer}."
        found = {path: model.get_submodule(prefix + path) for path in arch.targets()}
        for path, module in found.items():
            axis: Literal["row", "column"] = "column" if path in (arch.attention_out, arch.down) else "row"
            out_features, in_features = features(module)
            length, n = (out_features, in_features) if axis == "column" else (in_features, out_features)
            if length != d_model:
                raise ArchitectureError(f"{prefix}{path}: its {axis}s have length {length}, expected d_model={d_model}")
            targets.append(Target(prefix + path, axis, n, offset))
            offset += n
        neurons = features(found[arch.down])[1]
        layout = _Layout(arch, prefix, heads, kv_heads, head_dim, neurons)
        layout.check({t.module: t.n for t in targets[-len(found) :]})
        width = mlp_block or _default_block(layout)
        components += [layout.head(layer, h) for h in range(heads)]
        components += [layout.kv_group(layer, g) for g in range(kv_heads if layout.grouped else 0)]
        components += [layout.mlp_block(layer, b, width) for b in range(-(-neurons // width))]
    total = sum(getattr(p, "ds_numel", p.numel()) for p in model.parameters())
    return ComponentTable(components, targets, d_model, total)


def _default_block(layout: _Layout) -> int:
    per_head = layout.head(0, 0).n_vectors
    per_neuron = len(layout.arch.up) + 1
    return 1 << max(0, (per_head // per_neuron).bit_length() - 1)


@dataclass(frozen=True)
class _Layout:
    """Arithmetic of one layer: which rows and columns belong to head h, KV group g, MLP block b."""

    arch: Architecture
    prefix: str
    heads: int
    kv_heads: int
    head_dim: int
    neurons: int

    @property
    def grouped(self) -> bool:
        return self.kv_heads != self.heads

    @property
    def _attention(self) -> tuple[tuple[str, int], ...]:
        """(module path, units) of the roles query, key, value."""
        return (self.arch.query, self.heads), (self.arch.key, self.kv_heads), (self.arch.value, self.kv_heads)

    def _attention_rows(self, role: int, unit: int) -> Slice:
        """Rows of head (role 0) or KV group (roles 1, 2) `unit`; `architectures` explains the two layouts."""
        path, _ = self._attention[role]
        earlier = [n for p, n in self._attention[:role] if p == path]
        if self.arch.interleaved:
            start = (unit * len(self._attention) + len(earlier)) * self.head_dim
        else:
            start = (sum(earlier) + unit) * self.head_dim
        return Slice(self.prefix + path, "row", start, start + self.head_dim)

    def head(self, layer: int, h: int) -> Component:
        rows = [self._attention_rows(role, h) for role in ((0,) if self.grouped else (0, 1, 2))]
        start, stop = h * self.head_dim, (h + 1) * self.head_dim
        out = self.prefix + self.arch.attention_out
        slices = (*rows, Slice(out, "column", start, stop))
        return Component(f"L{layer}.head.{h}", layer, "head", h, slices, (Tap(out, "input", start, stop),))

    def kv_group(self, layer: int, g: int) -> Component:
        slices = tuple(self._attention_rows(role, g) for role in (1, 2))
        taps = tuple(Tap(s.module, "output", s.start, s.stop) for s in slices)
        return Component(f"L{layer}.kv.{g}", layer, "kv", g, slices, taps)

    def mlp_block(self, layer: int, b: int, width: int) -> Component:
        start, stop = b * width, min((b + 1) * width, self.neurons)
        rows = []
        for i, path in enumerate(self.arch.up):
            shift = self.neurons * self.arch.up[:i].count(path)
            rows.append(Slice(self.prefix + path, "row", start + shift, stop + shift))
        down = self.prefix + self.arch.down
        slices = (*rows, Slice(down, "column", start, stop))
        return Component(f"L{layer}.mlp.{b}", layer, "mlp", b, slices, (Tap(down, "input", start, stop),))

    def check(self, found: dict[str, int]) -> None:
        """Compare each Linear's number of vectors with what the config implies; a mismatch is an unknown variant."""
        expected: dict[str, int] = {}
        for path, units in self._attention:
            expected[path] = expected.get(path, 0) + units * self.head_dim
        expected[self.arch.attention_out] = self.heads * self.head_dim
        for path in self.arch.up:
            expected[path] = expected.get(path, 0) + self.neurons
        for path, n in expected.items():
            if found[self.prefix + path] != n:
                raise ArchitectureError(
                    f"{self.prefix}{path} has {found[self.prefix + path]} vectors, but the config implies {n} "
                    f"({self.heads} heads, {self.kv_heads} KV heads, head_dim {self.head_dim}, {self.neurons} "
                    "neurons). This variant of the family needs its own row in foresight/model/architectures.py."
                )
