"""Fingerprints of weights: which frozen tensor changed, and is this the model a checkpoint was made from."""

from __future__ import annotations

import hashlib

import torch
from torch import nn

from ..model.placement import Placement

BANK_NAME = "foresight_bank"
"""Attribute of the backbone under which a bank is registered; its parameters are not part of the model."""


def is_bank_key(name: str) -> bool:
    """True for a parameter or state-dict name that belongs to a bank."""
    return BANK_NAME in name.split(".")


def fingerprint(model: nn.Module, placement: Placement) -> dict[str, int]:
    """Checksum of what this process holds of every parameter (`Placement.checksum`), by name; the bank left out."""
    return {name: placement.checksum(p) for name, p in model.named_parameters() if not is_bank_key(name)}


def digest(prints: dict[str, int], placement: Placement) -> str:
    """Hex digest (16 characters) of a fingerprint: equal weights, equal digest, however they are sharded."""
    names = sorted(prints)
    totals = placement.total(torch.tensor([prints[name] for name in names]))
    sha = hashlib.sha256()
    for name, value in zip(names, totals.tolist(), strict=True):
        sha.update(f"{name}={value};".encode())
    return sha.hexdigest()[:16]
