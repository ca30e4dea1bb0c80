"""Replay: retained rows take the place of some training rows, equally many in every batch, at no extra step.

The trainer keeps its loader: rows are one table, training rows first, and a sampler names them. It goes through the
training rows in the order they would have without replay and puts a retained row on fixed positions, so that batches,
accumulation, several processes and resuming stay what they are. A replaced training row is not seen in that epoch.
The loss stays a mean over tokens: retained rows with more labelled tokens than training rows weigh, and cost, more.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from datasets import Dataset, concatenate_datasets
from torch.utils.data import RandomSampler, Sampler

COLUMNS = ["input_ids", "labels"]


class ReplaySampler(Sampler[int]):
    """Positions in a table of `n_train` training rows followed by `n_retained` retained rows, for one epoch.

    Of any n consecutive rows of an epoch, n * share are retained ones, up to one row: of every batch exactly so, if
    its share is a whole number. Retained rows come in seeded random order, each once before any comes again, through
    all epochs.

    Args:
        share: in [0, 1).
        seed: of both orders; that of the training rows is the Hugging Face trainer's for this seed.
    """

    def __init__(self, n_train: int, n_retained: int, share: float, seed: int):
        self.n_train, self.n_retained, self.share, self.seed = n_train, n_retained, share, seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Take the orders of an epoch, from 0; called by the loader."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.n_train

    def __iter__(self) -> Iterator[int]:
        order = RandomSampler(range(self.n_train), generator=torch.Generator().manual_seed(self.seed + self.epoch))
        done = self.epoch * self._replaced(self.n_train)  # retained rows of the epochs before
        for position, row in enumerate(order):
            if self._replaced(position + 1) > self._replaced(position):
                yield self.n_train + self._retained(done)
                done += 1
            else:
                yield row

    def _replaced(self, n: int) -> int:
        """Retained rows among the first n of an epoch."""
        return math.floor(n * self.share + 1e-9)

    def _retained(self, i: int) -> int:
        """The i-th retained row since training began."""
        turn, place = divmod(i, self.n_retained)
        if getattr(self, "_turn", None) != turn:
            generator = torch.Generator().manual_seed(self.seed * 1_000_003 + turn)
            self._turn, self._order = turn, torch.randperm(self.n_retained, generator=generator).tolist()
        return self._order[place]


def with_retained(train: Dataset, retained: Dataset) -> Dataset:
    """One table for a `ReplaySampler`, of tokenized rows: columns input_ids and labels."""
    return concatenate_datasets([train.select_columns(COLUMNS), retained.select_columns(COLUMNS)])
