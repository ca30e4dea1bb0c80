"""The units of a mask of single vectors: each row and column of a component is a component of its own.

A model of 8 billion parameters has 1.7 million of them, so they are rows of arrays: a `Component` is made when it is
asked for, and a name is made or read by arithmetic.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from .components import Component, ComponentTable, Slice, component_table
from .numbering import Numbering, Target

if TYPE_CHECKING:
    from torch import nn

_STRETCH = 2**16
_NAME = re.compile(r"L(0|[1-9]\d*)\.(\w+)\.(0|[1-9]\d*)\.(\w+)\.(0|[1-9]\d*)", re.ASCII)


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
    return VectorTable(table, np.concatenate(ids), np.concatenate(parents))


class VectorTable(ComponentTable):
    """Vectors as components, in the order of the components that they come from.

    Args:
        table: those components, with all neurons of a layer as one block.

    Attributes:
        ids: int64 [n], the id of each vector; parent: int32 [n], the index of its component within layer and kind.
    """

    def __init__(self, table: ComponentTable, ids: np.ndarray, parent: np.ndarray):
        Numbering.__init__(self, table.targets, table.d_model, table.model_parameters)
        self.ids, self.parent, sizes = ids, parent, table.vectors
        self.layer, self.kind = table.layer.repeat(sizes), table.kind.repeat(sizes)
        self.vectors = np.ones(len(ids), np.int32)
        begins = np.r_[True, (np.diff(table.layer) != 0) | (table.kind[1:] != table.kind[:-1])]
        first = np.maximum.accumulate(np.where(begins, np.cumsum(sizes) - sizes, 0))
        self.index = (np.arange(len(ids)) - first.repeat(sizes)).astype(np.int32)
        self.components = _Components(self)

    @cached_property
    def name(self) -> np.ndarray:
        return np.concatenate([np.array(self.names(part)) for part in self._stretches()])

    def names(self, components) -> list[str]:
        at = np.asarray(components, np.int64)
        targets, places = self._places(at)
        leaves = [target.module.rpartition(".")[2] for target in self.targets]
        columns = (self.layer[at], self.kind[at], self.parent[at], targets, places)
        return [
            f"L{layer}.{kind}.{parent}.{leaves[target]}.{place}"
            for layer, kind, parent, target, place in zip(*(column.tolist() for column in columns), strict=True)
        ]

    @cached_property
    def id_of(self) -> Mapping[str, int]:
        return _Positions(self)

    @cached_property
    def hash(self) -> str:
        """Hex digest (16 characters) of d_model, targets and the order of vectors."""
        text = json.dumps([self.d_model, [list(vars(target).values()) for target in self.targets]])
        return hashlib.sha256(text.encode() + self.ids.astype("<i8").tobytes()).hexdigest()[:16]

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
        owner = np.empty(len(self), np.int64)
        owner[self.ids] = np.arange(len(self))
        return owner

    def vector_ids(self, components) -> np.ndarray:
        return np.sort(self.ids[np.asarray(components, np.int64)])

    def _stretches(self) -> Iterator[np.ndarray]:
        for start in range(0, len(self), _STRETCH):
            yield np.arange(start, min(start + _STRETCH, len(self)))

    def _places(self, at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Of the vectors at some positions: which target each is in, and its place there, int64 [k] both."""
        offsets, ids = np.array([target.offset for target in self.targets]), self.ids[at]
        targets = np.searchsorted(offsets, ids, side="right") - 1
        return targets, ids - offsets[targets]


class _Components(Sequence[Component]):
    """A table's vectors as `Component`s, made when they are asked for."""

    def __init__(self, table: VectorTable):
        self.table = table

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, i):
        i, table = range(len(self))[i], self.table
        (target,), (place,) = table._places(np.array([i]))
        module, axis, place = table.targets[target].module, table.targets[target].axis, int(place)
        cut = (Slice(module, axis, place, place + 1),)
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
        if said := _NAME.fullmatch(name):
            layer, kind, parent, leaf, place = said.groups()
            for target in self.targets.get((int(layer), leaf), ()):
                if int(place) < target.n:
                    at = int(self.table.owner[target.offset + int(place)])
                    if self.table.kind[at] == kind and self.table.parent[at] == int(parent):
                        return at
        raise KeyError(name)
