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
from .architectures import Layer, layers_of
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
        model: with layers in a layout of `foresight.model.architectures`; it is not changed.
        mlp_block: neurons per MLP block; a layer's last block is smaller if the width is not a multiple. None takes
            the largest power of two at which a block has no more vectors than a head, and at least one neuron.

    Raises:
        ArchitectureError: an unknown layout, or weights whose shapes do not match its description.
        ConfigError: `mlp_block` < 1.
    """
    if mlp_block is not None and mlp_block < 1:
        raise ConfigError(f"mlp_block is {mlp_block}; expected at least 1 neuron; leave it out for the default width")
    d_model = model.config.get_text_config().hidden_size
    components: list[Component] = []
    targets: list[Target] = []
    offset = 0
    layers = layers_of(model)
    heads = [Heads.of(model, layer) if layer.attention else None for layer in layers]
    some = next((one for one in heads if one), None)
    for i, layer in enumerate(layers):
        found = {path: model.get_submodule(f"{layer.path}.{path}") for path in layer.targets()}
        columns = [part.targets()[-1] for part in (layer.attention, layer.mlp) if part]
        for path, module in found.items():
            axis: Literal["row", "column"] = "column" if path in columns else "row"
            out_features, in_features = features(module)
            length, n = (out_features, in_features) if axis == "column" else (in_features, out_features)
            if length != d_model:
                where = f"{layer.path}.{path}"
                raise ArchitectureError(f"{where}: its {axis}s have length {length}, expected d_model={d_model}")
            targets.append(Target(f"{layer.path}.{path}", axis, n, offset))
            offset += n
        own = heads[i]
        if own:
            components += own.components(i)
        if layer.mlp:
            neurons, near = Neurons.of(model, layer), own or some
            per_head = near.components(i)[0].n_vectors if near else neurons.n
            width = mlp_block or 1 << max(0, (per_head // (len(neurons.rows) + 1)).bit_length() - 1)
            components += neurons.blocks(i, width)
    total = sum(getattr(p, "ds_numel", p.numel()) for p in model.parameters())
    return ComponentTable(components, targets, d_model, total)


@dataclass(frozen=True)
class Heads:
    """Arithmetic of one layer's attention: which rows and columns belong to head h and KV group g.

    Attributes:
        rows, out: module names, those of rows by role. n, groups: heads, and groups of them that share key and value.
        sizes: rows of a query, which may bring a gate along, and of a key and a value. width: columns of a head.
    """

    rows: tuple[str, ...]
    out: str
    n: int
    groups: int
    sizes: tuple[int, ...]
    width: int
    interleaved: bool

    @classmethod
    def of(cls, model: nn.Module, layer: Layer) -> Heads:
        """Read them from shapes and the width of a head; ArchitectureError where these do not fit together."""
        attention = layer.attention
        assert attention is not None
        rows, out = tuple(f"{layer.path}.{path}" for path in attention.rows), f"{layer.path}.{attention.out}"
        found = {name: features(model.get_submodule(name))[0] for name in rows}
        written, width = features(model.get_submodule(out))[1], _head_width(model, out)
        n, fused = written // width, len(rows) == 3 and len(found) == 1
        interleaved = attention.interleaved and fused and found[rows[0]] == 3 * written
        if fused:
            groups = n if interleaved else (found[rows[0]] // width - n) // 2
            sizes: tuple[int, ...] = (width, width, width)
        else:
            groups = found[rows[2]] // width if len(rows) == 3 else n
            sizes = tuple(found[name] // max(1, units) for name, units in zip(rows, (n, groups, groups), strict=False))
        whole = dict.fromkeys(rows, 0)
        for name, size, units in zip(rows, sizes, (n, groups, groups), strict=False):
            whole[name] += size * units
        odd = len(rows) == 3 and (sizes[2] != width or sizes[0] % sizes[1])
        if odd or n * width != written or groups < 1 or n % groups or whole != found:
            raise ArchitectureError(
                f"{out} reads {written} features and a head has {width}, which does not fit the rows that make them: "
                f"{found}. This variant of the layout needs its own row in foresight/model/architectures.py."
            )
        return cls(rows, out, n, groups, sizes, width, interleaved)

    def components(self, layer: int) -> list[Component]:
        grouped = self.groups != self.n
        return [self._head(layer, h, grouped) for h in range(self.n)] + [
            self._group(layer, g) for g in range(self.groups if grouped else 0)
        ]

    def _rows(self, role: int, unit: int) -> Slice:
        """Rows of head (role 0) or KV group (roles 1, 2) `unit`."""
        units, size = (self.n, self.groups, self.groups), self.sizes[role]
        before = [r for r in range(role) if self.rows[r] == self.rows[role]]
        if self.interleaved:
            start = (unit * len(self.rows) + len(before)) * size
        else:
            start = sum(units[r] * self.sizes[r] for r in before) + unit * size
        return Slice(self.rows[role], "row", start, start + size)

    def _head(self, layer: int, h: int, grouped: bool) -> Component:
        rows = [self._rows(role, h) for role in range(len(self.rows)) if role == 0 or not grouped]
        start, stop = h * self.width, (h + 1) * self.width
        slices = (*rows, Slice(self.out, "column", start, stop))
        return Component(f"L{layer}.head.{h}", layer, "head", h, slices, (Tap(self.out, "input", start, stop),))

    def _group(self, layer: int, g: int) -> Component:
        slices = tuple(self._rows(role, g) for role in (1, 2))
        taps = tuple(Tap(s.module, "output", s.start, s.stop) for s in slices)
        return Component(f"L{layer}.kv.{g}", layer, "kv", g, slices, taps)


def _head_width(model: nn.Module, out: str) -> int:
    """Features of a head: what the module around the output projection says, or else the config."""
    module, config = model.get_submodule(out.rpartition(".")[0]), model.config.get_text_config()
    said = (getattr(module, name, None) for name in ("v_head_dim", "head_dim", "head_size"))
    return next((width for width in said if width), None) or config.hidden_size // config.num_attention_heads


@dataclass(frozen=True)
class Neurons:
    """Arithmetic of one layer's MLP: which rows and columns belong to block b. `rows` and `down` are module names; a
    module with gate and up stacked is there twice.
    """

    rows: tuple[str, ...]
    down: str
    n: int

    @classmethod
    def of(cls, model: nn.Module, layer: Layer) -> Neurons:
        """Read them from shapes; ArchitectureError where these do not fit together."""
        mlp = layer.mlp
        assert mlp is not None
        down = f"{layer.path}.{mlp.down}"
        n, rows = features(model.get_submodule(down))[1], list[str]()
        for name in (f"{layer.path}.{path}" for path in mlp.rows):
            found = features(model.get_submodule(name))[0]
            if found not in (n, 2 * n):
                raise ArchitectureError(
                    f"{name} has {found} rows and {down} reads {n} neurons; expected as many rows, or twice as many. "
                    "This variant of the layout needs its own row in foresight/model/architectures.py."
                )
            rows += [name] * (found // n)
        return cls(tuple(rows), down, n)

    def blocks(self, layer: int, width: int) -> list[Component]:
        return [self._block(layer, b, width) for b in range(-(-self.n // width))]

    def _block(self, layer: int, b: int, width: int) -> Component:
        start, stop = b * width, min((b + 1) * width, self.n)
        shifts = (self.n * self.rows[:i].count(name) for i, name in enumerate(self.rows))
        rows = (Slice(name, "row", start + s, stop + s) for name, s in zip(self.rows, shifts, strict=True))
        slices = (*rows, Slice(self.down, "column", start, stop))
        return Component(f"L{layer}.mlp.{b}", layer, "mlp", b, slices, (Tap(self.down, "input", start, stop),))
