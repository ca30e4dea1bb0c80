"""The units of a mask of single vectors: rows and columns of components, or rows of every matrix.

A model of 8 billion parameters has 1.7 million of them, so they are rows of arrays: a `Component` is made when it is
asked for, and a name is made or read by arithmetic.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ..common.errors import ArchitectureError
from .components import Component, ComponentTable, Slice, component_table, features, stored_transposed
from .numbering import Numbering, Target

if TYPE_CHECKING:
    from torch import nn

_STRETCH = 2**16
_NUMBER = r"(0|[1-9]\d*)"
_NAME = re.compile(rf"L{_NUMBER}\.(?:(\w+)\.{_NUMBER}\.)?(\w+)\.{_NUMBER}", re.ASCII)


def vector_table(model: nn.Module) -> VectorTable:
    """Return a table in which every row and column is a component of its own.

    A vector has the kind and layer of the component that it comes from (a single neuron in the MLP). Its name consists
    of that component, its Linear and its position there, as in "L0.head.2.q_proj.17"; `index` counts within layer and
    kind. It has no taps, because a single row has no activation that could be patched.

    Raises:
        ArchitectureError: as `component_table`.
    """
    table = component_table(model, mlp_block=sys.maxsize)  # a layer's MLP is one block, to be cut into neurons here
    ids, parents = [], []
    for component in table:
        pieces = [np.arange(s.start, s.stop) + table.target_of[s.module].offset for s in component.slices]
        neurons = component.kind == "mlp"
        ids.append(np.stack(pieces, 1).ravel() if neurons else np.concatenate(pieces))
        own = np.arange(len(pieces[0])).repeat(len(pieces)) if neurons else np.full(len(ids[-1]), component.index)
        parents.append(own.astype(np.int32))
    first, sizes = np.concatenate(ids), np.ones(table.n_vectors, np.int32)
    layer, kind = table.layer.repeat(table.vectors), table.kind.repeat(table.vectors)
    return VectorTable(table.targets, table.d_model, table, first, sizes, layer, kind, np.concatenate(parents))


def row_table(model: nn.Module) -> RowTable:
    """Return a table in which every row of every Linear is a component, those of output and down projections too.

    Rows differ in length, so vectors are pieces of rows, of the greatest length that all rows are multiples of. A row
    is named by layer, Linear and output feature, as in "L0.down_proj.17". Its kind is "mlp" or "head", for any row of
    attention.

    Raises:
        ArchitectureError: as `component_table`, or the family stores weights transposed, where rows are not contiguous.
    """
    table = component_table(model, mlp_block=sys.maxsize)
    modules = {target: model.get_submodule(target.module) for target in table.targets}
    if any(stored_transposed(module) for module in modules.values()):
        raise ArchitectureError(
            f"model type {model.config.model_type!r} stores its weights transposed, and a row of them is not contiguous"
            "; granularity 'rows' needs plain Linears: use 'vectors' or 'weights'"
        )
    length = math.gcd(*(features(module)[1] for module in modules.values()))
    targets, first, sizes, layer, kind = list[Target](), [], [], [], []
    for target, module in modules.items():
        (rows, inputs), parent = features(module), table.owner[target.offset]
        offset, pieces = targets[-1].ids.stop if targets else 0, inputs // length
        targets.append(Target(target.module, "entry", rows * pieces, offset))
        first.append(offset + pieces * np.arange(rows))
        sizes.append(np.full(rows, pieces, np.int32))
        layer.append(np.full(rows, table.layer[parent], np.int32))
        kind.append(np.full(rows, "mlp" if table.kind[parent] == "mlp" else "head"))
    return RowTable(targets, length, table, *(np.concatenate(parts) for parts in (first, sizes, layer, kind)))


class VectorTable(ComponentTable):
    """Components that are a run of vectors of one target each.

    Args:
        table: of whose model it is.
        first: int64 [n], the id of each component's first vector; sizes: int32 [n], how many it has.
        layer, kind: [n] each, with one stretch for each kind of a layer.
        parent: int32 [n], the index of the component that each comes from, to be part of its name.
    """

    def __init__(
        self,
        targets: Sequence[Target],
        length: int,
        table: ComponentTable,
        first: np.ndarray,
        sizes: np.ndarray,
        layer: np.ndarray,
        kind: np.ndarray,
        parent: np.ndarray | None = None,
    ):
        Numbering.__init__(self, targets, length, table.model_parameters)
        self.first, self.vectors, self.layer, self.kind, self.parent = first, sizes, layer, kind, parent
        begins = np.flatnonzero(np.r_[True, (np.diff(layer) != 0) | (kind[1:] != kind[:-1])])
        counts = np.diff(np.r_[begins, len(first)])
        self.index = (np.arange(len(first)) - begins.repeat(counts)).astype(np.int32)
        self.components = _Components(self)

    @cached_property
    def name(self) -> np.ndarray:
        return np.concatenate([np.array(self.names(part)) for part in self._stretches()])

    def names(self, components) -> list[str]:
        at = np.asarray(components, np.int64)
        targets, places = self._places(at)
        leaves = [target.module.rpartition(".")[2] for target in self.targets]
        parents = [""] * len(at)
        if self.parent is not None:
            pairs = zip(self.kind[at].tolist(), self.parent[at].tolist(), strict=True)
            parents = [f"{kind}.{parent}." for kind, parent in pairs]
        columns = (self.layer[at].tolist(), parents, targets.tolist(), (places // self.vectors[at]).tolist())
        return [
            f"L{layer}.{parent}{leaves[target]}.{place}" for layer, parent, target, place in zip(*columns, strict=True)
        ]

    @cached_property
    def id_of(self) -> Mapping[str, int]:
        return _Positions(self)

    @cached_property
    def hash(self) -> str:
        """Hex digest (16 characters) of length, targets and the order of components."""
        text = json.dumps([self.d_model, [list(vars(target).values()) for target in self.targets]])
        return hashlib.sha256(text.encode() + self.first.astype("<i8").tobytes()).hexdigest()[:16]

    def has_hash(self, found: str) -> bool:
        return found == self.hash or found == self._early_hash

    @cached_property
    def _early_hash(self) -> str:
        """The hash of version 0.1: that of a `ComponentTable` with a component per vector."""
        digest, joint = hashlib.sha256(f"[{self.d_model}, [".encode()), ""
        for part in self._stretches():
            targets, places = self._places(part)
            rows = zip(self.names(part), (self.targets[t] for t in targets.tolist()), places.tolist(), strict=True)
            text = ", ".join(f'["{name}", [["{t.module}", "{t.axis}", {i}, {i + 1}]]]' for name, t, i in rows)
            digest.update((joint + text).encode())
            joint = ", "
        digest.update(b"]]")
        return digest.hexdigest()[:16]

    @cached_property
    def owner(self) -> np.ndarray:
        owner = np.empty(self.n_vectors, np.int64)
        owner[self._ids(np.arange(len(self)))] = np.arange(len(self)).repeat(self.vectors)
        return owner

    def vector_ids(self, components) -> np.ndarray:
        return np.sort(self._ids(np.asarray(components, np.int64)))

    def _ids(self, at: np.ndarray) -> np.ndarray:
        sizes = self.vectors[at].astype(np.int64)
        return np.arange(sizes.sum()) + (self.first[at] - np.cumsum(sizes) + sizes).repeat(sizes)

    def _stretches(self) -> Iterator[np.ndarray]:
        for start in range(0, len(self), _STRETCH):
            yield np.arange(start, min(start + _STRETCH, len(self)))

    def _places(self, at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Which target each of some components is in, and the place of its first vector there: int64 [k] both."""
        offsets, ids = np.array([target.offset for target in self.targets]), self.first[at]
        targets = np.searchsorted(offsets, ids, side="right") - 1
        return targets, ids - offsets[targets]


class RowTable(VectorTable):
    """Rows as components, pieces of rows as vectors."""

    unit: ClassVar[str] = "pieces of rows"


class _Components(Sequence[Component]):
    """A table's rows as `Component`s, made when they are asked for."""

    def __init__(self, table: VectorTable):
        self.table = table

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, i):
        i, table = range(len(self))[i], self.table
        (target,), (place,) = table._places(np.array([i]))
        module, axis, place = table.targets[target].module, table.targets[target].axis, int(place)
        cut = (Slice(module, axis, place, place + int(table.vectors[i])),)
        return Component(table.names([i])[0], int(table.layer[i]), str(table.kind[i]), int(table.index[i]), cut, ())


class _Positions(Mapping[str, int]):
    """Name -> position in the table, read from the name."""

    def __init__(self, table: VectorTable):
        self.table = table
        self.targets: dict[tuple[int, str], list[Target]] = {}  # by layer and last part of the name
        for target in table.targets:
            layer = int(table.layer[table.owner[target.offset]])
            self.targets.setdefault((layer, target.module.rpartition(".")[2]), []).append(target)

    def __len__(self) -> int:
        return len(self.table)

    def __iter__(self) -> Iterator[str]:
        for part in self.table._stretches():
            yield from self.table.names(part)

    def __getitem__(self, name: str) -> int:
        table = self.table
        if said := _NAME.fullmatch(name):
            layer, kind, parent, leaf, place = said.groups()
            for target in self.targets.get((int(layer), leaf), ()):
                first = int(place) * int(table.vectors[table.owner[target.offset]])
                if first < target.n:
                    at = int(table.owner[target.offset + first])
                    own = (None, None) if table.parent is None else (table.kind[at], str(table.parent[at]))
                    if own == (kind, parent):
                        return at
        raise KeyError(name)
