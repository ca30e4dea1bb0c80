"""The frozen weights under a bank: read and written as vectors at a re-mask, recorded in a ledger where they were
written, and proven unchanged in between.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ..common.errors import MaskLeakError
from ..model.components import stored_transposed
from ..model.numbering import Numbering, Target
from ..model.placement import Placement

BANK_NAME = "foresight_bank"
"""Attribute of the backbone under which a bank is registered; its parameters are not part of the model."""


class BaseWeights:
    """All weights of a model except its bank's.

    Attributes:
        hash: hex digest of the weights as they were at construction, before any training; tensors: the checksum of
            each, by name.
        placement: where they are; `place` updates it.
    """

    def __init__(self, model: nn.Module, table: Numbering, placement: Placement):
        self.model = model
        self.table = table
        self.place(placement)
        self.tensors = gathered(self._fingerprint, placement)
        self.hash = digest(self.tensors, Placement())  # they are gathered by now

    def place(self, placement: Placement) -> None:
        """Take note of where the weights are now, and in which dtype."""
        self.placement = placement
        self._fingerprint = fingerprint(self.model, placement)

    @property
    def dtype(self) -> torch.dtype:
        return self.model.get_submodule(self.table.targets[0].module).weight.dtype

    def _open(self, ids: Tensor, write: bool = False) -> Iterator[tuple[slice, Tensor, Tensor]]:
        """Yield for each target that has some of the sorted ids, gathered once: their slice of `ids`, its vectors, and
        their places among these.
        """
        for target, part in self.table.by_target(ids):
            with self.vectors_of(target, write) as weight:
                yield part, weight, (ids[part] - target.offset).to(weight.device)
            if write:
                name = f"{target.module}.weight"
                self._fingerprint[name] = self.placement.checksum(self.model.get_parameter(name))

    @contextmanager
    def vectors_of(self, target: Target, write: bool = False) -> Iterator[Tensor]:
        """The stored weight with this target's vectors as rows: a view [n, length] in the weight's dtype."""
        module = self.model.get_submodule(target.module)
        with self.placement.whole(module.weight, write) as weight:
            yield as_vectors(weight, module, target)

    def plus(self, ids: Tensor, deltas: Tensor) -> Tensor:
        """Stored vectors plus `deltas` [k, d_model], for sorted ids int64 [k]: float32 [k, d_model] on the CPU."""
        parts = [torch.zeros(0, self.table.d_model)]
        for part, weight, places in self._open(ids):
            parts.append((weight[places].float() + deltas[part].to(weight.device)).cpu())
        return torch.cat(parts)

    def fold(self, ids: Tensor, deltas: Tensor) -> Tensor:
        """Add `deltas` [k, d_model] to stored vectors (sorted ids int64 [k]).

        Returns their exact values, float32 [k, d_model] on the CPU; what is stored is rounded to the weights' dtype.
        """
        parts = [torch.zeros(0, self.table.d_model)]
        for part, weight, places in self._open(ids, write=True):
            values = weight[places].float() + deltas[part].to(weight.device)
            _assign(weight, places, values)
            parts.append(values.cpu())
        return torch.cat(parts)

    def write(self, ids: Tensor, values: Tensor) -> None:
        """Set vectors (sorted ids int64 [k]) to float32 values [k, d_model], rounded to the weights' dtype."""
        for part, weight, places in self._open(ids, write=True):
            _assign(weight, places, values[part])

    def changed(self, ledger: Ledger, ids: Tensor, deltas: Tensor) -> tuple[Tensor, Tensor]:
        """All that a ledger (which is written in) and deltas [k, d_model] of a bank at sorted ids int64 [k] have
        changed: (ids int64 [m], float32 values [m, d_model]).
        """
        record = Ledger(self.table.d_model)
        record.record(ledger.ids, ledger.values)
        record.record(ids, self.plus(ids, deltas))
        return record.ids, record.values

    @torch.no_grad()
    def verify(self) -> None:
        """Check that no weight has changed by one bit since the last write; one pass over them.

        Raises:
            MaskLeakError: names the tensor that changed.
        """
        for name, found in fingerprint(self.model, self.placement).items():
            if found != self._fingerprint[name]:
                raise MaskLeakError(
                    f"{name} changed although it is frozen and only the bank is trained. Something else writes to the "
                    "weights (another optimizer, a callback, weight tying); the run is stopped because its mask would "
                    "mean nothing. Resume from the last checkpoint without it."
                )


class Ledger:
    """Vector id -> fp32 value of that vector (base plus everything learned), kept on the CPU.

    Values, not differences: a bf16 base loses small differences when they are folded in, and a difference against a
    base that has lost bits cannot be undone. From the ledger a run is resumed, exported and merged bit for bit.

    Attributes:
        ids: int64 [m], sorted, unique (ids of a `ComponentTable`).
        values: float32 [m, d_model].
    """

    def __init__(self, d_model: int):
        self.ids = torch.zeros(0, dtype=torch.int64)
        self.values = torch.zeros(0, d_model)

    def __len__(self) -> int:
        return len(self.ids)

    def record(self, ids: Tensor, values: Tensor) -> None:
        """Insert or replace: ids int64 [k] sorted, values [k, d_model] of any float dtype and device."""
        ids, values = ids.cpu(), values.detach().float().cpu()
        old = ~torch.isin(self.ids, ids)
        ids, values = torch.cat([self.ids[old], ids]), torch.cat([self.values[old], values])
        order = ids.argsort()
        self.ids, self.values = ids[order], values[order]

    def find(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Return (known: bool [k], values: float32 [known.sum(), d_model]) for int64 ids [k]."""
        known = torch.isin(ids, self.ids)
        return known, self.values[torch.searchsorted(self.ids, ids[known])]


def write_vectors(weight: Tensor, module: nn.Module, target: Target, index: Tensor, values: Tensor) -> None:
    """Set the target's vectors `index` in a stored weight (Linear or Conv1D) to fp32 values [k, length]."""
    _assign(as_vectors(weight, module, target), index, values)


def as_vectors(weight: Tensor, module: nn.Module, target: Target) -> Tensor:
    """View of a stored weight with the target's vectors as its rows."""
    if target.axis == "entry":
        return weight.view(target.n, -1)
    return weight if stored_transposed(module) == (target.axis == "column") else weight.T


def _assign(vectors: Tensor, index: Tensor, values: Tensor) -> None:
    vectors[index.to(vectors.device)] = values.to(vectors.device, vectors.dtype)


def is_bank_key(name: str) -> bool:
    """True for a parameter or state-dict name that belongs to a bank."""
    return BANK_NAME in name.split(".")


def fingerprint(model: nn.Module, placement: Placement, ordered: bool = True) -> dict[str, int]:
    """Checksum of what this process holds of every parameter (`Placement.checksum`), by name; the bank left out."""
    return {name: placement.checksum(p, ordered) for name, p in model.named_parameters() if not is_bank_key(name)}


def gathered(prints: dict[str, int], placement: Placement) -> dict[str, int]:
    """A fingerprint of whole parameters, sorted by name: equal weights, equal numbers, however they are sharded."""
    names = sorted(prints)
    return dict(zip(names, placement.total(torch.tensor([prints[name] for name in names])).tolist(), strict=True))


def digest(prints: dict[str, int], placement: Placement) -> str:
    """Hex digest (16 characters) of a fingerprint, gathered."""
    text = "".join(f"{name}={value};" for name, value in gathered(prints, placement).items())
    return hashlib.sha256(text.encode()).hexdigest()[:16]
