"""Some features of a matrix, read and added to: by slices where they lie together, by index where they do not."""

from __future__ import annotations

import torch
from torch import Tensor

TOGETHER = 16
"""Features a run from which slices beat an index; components of the usual sizes lie in runs of this length or more."""


class Features:
    """Features at sorted positions, int64 [k], without repeats."""

    def __init__(self, index: Tensor):
        self.index = index
        breaks = (torch.diff(index) != 1).nonzero().flatten() + 1
        bounds = [0, *breaks.tolist(), len(index)]
        runs = [(int(index[a]), a, b - a) for a, b in zip(bounds[:-1], bounds[1:], strict=True)]
        self.runs = runs if len(index) >= TOGETHER * len(runs) else None
        """Runs of adjacent features, as (first feature, its place in the index, length)."""

    def of(self, matrix: Tensor) -> Tensor:
        """These columns of a matrix [n, features]: [n, k]; a view if they are one run."""
        if self.runs is None:
            return matrix.index_select(1, self.index)
        parts = [matrix.narrow(1, first, length) for first, _, length in self.runs]
        return parts[0] if len(parts) == 1 else torch.cat(parts, 1)

    def add_product(self, matrix: Tensor, left: Tensor, right: Tensor) -> None:
        """Add `left` [n, m] @ `right` [m, k] to these columns of `matrix` [n, features], in place."""
        if self.runs is None:
            matrix.index_add_(1, self.index, left @ right)
            return
        for first, at, length in self.runs:
            matrix.narrow(1, first, length).addmm_(left, right.narrow(1, at, length))
