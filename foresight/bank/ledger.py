"""The ledger: the fp32 record of every vector that a run has folded into the base weights."""

from __future__ import annotations

import torch
from torch import Tensor


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
