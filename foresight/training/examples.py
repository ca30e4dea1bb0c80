"""The examples that a run's scorer looks at: other ones at every snapshot, until all have had a turn."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sized
from itertools import islice
from typing import TYPE_CHECKING, Any

from datasets import Dataset

from ..scoring.probes import ContrastProbe, Probe, TextProbe
from ..tasks.columns import PAIR_COLUMNS, check_pairs

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

STREAMED = 1024
"""Rows of a stream that are kept to score on."""
GOLDEN = (math.sqrt(5) - 1) / 2


class Examples:
    """Contrast pairs, or prepared training rows. They are taken in an order that spreads any few of them evenly over
    the table: tables are often sorted.

    Args:
        rows: contrast pairs if there is a tokenizer, otherwise tokenized rows, of which a stream's first are kept.
        batch_size: examples in a batch of a probe.

    Raises:
        DataError: a pair that cannot be used.
    """

    def __init__(self, rows: Dataset | Iterable[Any], tokenizer: PreTrainedTokenizerBase | None, batch_size: int):
        self.batch_size, self._tokenizer = batch_size, tokenizer
        self._rows: Any = rows if isinstance(rows, Sized) else list(islice(rows, STREAMED))
        if tokenizer is not None:
            check_pairs(self._rows, tokenizer)
        n = len(self._rows)
        self._stride = next((s for s in range(max(1, round(GOLDEN * n)), n + 1) if math.gcd(s, n) == 1), 1)

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def hash(self) -> str:
        """Hex digest (16 characters) of the contrast pairs. Training rows have a digest of their own."""
        found = hashlib.sha256(str(len(self)).encode())
        if self._tokenizer is not None:
            for column in PAIR_COLUMNS:
                found.update("\n".join(self._rows[column]).encode())
        return found.hexdigest()[:16]

    def take(self, start: int, count: int) -> Probe:
        """A probe of `count` examples, or of all if they are fewer, after the first `start` have had their turn."""
        n = len(self)
        picks = sorted((start + i) * self._stride % n for i in range(min(count, n)))
        rows = self._rows.select(picks) if hasattr(self._rows, "select") else [self._rows[i] for i in picks]
        if self._tokenizer is None:
            return TextProbe.from_dataset(rows, self.batch_size)
        return ContrastProbe.from_dataset(rows, self._tokenizer, self.batch_size)
