"""Fingerprints of weights: which frozen vector changed, and is this the model a checkpoint was made from."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor, nn

from .components import ComponentTable, Target, stored_transposed

BANK_NAME = "foresight_bank"
"""Attribute of the backbone under which a bank is registered; its parameters are not part of the model."""

_BITS = {torch.float32: torch.int32, torch.bfloat16: torch.int16}


def vectors_of(model: nn.Module, target: Target) -> Tensor:
    """The stored weight of a target with its d_model-vectors as rows: a view [n, d_model] in the weight's dtype."""
    module = model.get_submodule(target.module)
    rows_first = stored_transposed(module) == (target.axis == "column")
    return module.weight.data if rows_first else module.weight.data.T


def checksum(vectors: Tensor) -> Tensor:
    """int64 [n] sums of the bit patterns of weights [n, d]: any one changed bit changes its vector's sum."""
    return vectors.view(_BITS.get(vectors.dtype, torch.uint8)).sum(-1, dtype=torch.int64).cpu()


def is_bank_key(name: str) -> bool:
    """True for a parameter or state-dict name that belongs to a bank."""
    return BANK_NAME in name.split(".")


def fingerprint(model: nn.Module, table: ComponentTable) -> dict[str, Tensor]:
    """Checksums by vector (int64 [n]) for targets, by tensor (int64 [1]) for every other parameter."""
    prints = {t.module: checksum(vectors_of(model, t)) for t in table.targets}
    weights = {f"{t.module}.weight" for t in table.targets}
    for name, parameter in model.named_parameters():
        if name not in weights and not is_bank_key(name):
            prints[name] = checksum(parameter.data.reshape(1, -1))
    return prints


def digest(prints: dict[str, Tensor]) -> str:
    """Hex digest (16 characters) of a fingerprint: equal weights, equal digest."""
    sha = hashlib.sha256()
    for name in sorted(prints):
        sha.update(name.encode())
        sha.update(prints[name].numpy().tobytes())
    return sha.hexdigest()[:16]
