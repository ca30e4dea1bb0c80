"""Tasks whose rows come from a data set rather than from a generator.

A data task turns every row of a table into a prompt and its completion; `pairing` finds the contrast pairs among them.
Rows that cannot be contrasted under the user's tokenizer are left out of the pairs but not of the training data, and a
warning says how many there are.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

from datasets import Dataset

from ..common.errors import ConfigError, DataError, one_of
from .columns import require_columns
from .examples import SPLITS, Example, Split, Task, completions, divided
from .pairing import Raw, Row, pair
from .read_table import Source

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_log = logging.getLogger(__name__)
_POOL = 4096  # rows to tokenize before looking for pairs; more are read only if these do not give enough


class DataTask(Task):
    """A task over a data set. A subclass names the data set and its columns, and makes a `Row` from each raw row.

    Train and test rows come from the two tables that `Source.read` returns; a single table is divided by the hash of
    the prompt. A prompt that is in both tables is a test prompt, and of rows with equal prompts only the first counts.

    Args:
        source: where the rows are, or just a path or Hub name; None for the task's own `hub` data set.
        labels: other words for the task's `labels`, by the same values.

    Raises:
        ConfigError: labels for other values than the task's, or the same word twice.
    """

    hub: ClassVar[Source]
    columns: ClassVar[tuple[str, ...]]
    labels: Mapping[str, str] = {}
    """Value in the data -> the word that answers it, a single token; empty where answers are names."""
    template: ClassVar[str]
    """The prompt, from all columns but the last, which has the label."""

    def __init__(self, source: Source | str | None = None, labels: Mapping[str, str] | None = None):
        given = Source(source) if isinstance(source, str) else source or self.hub
        if not given.path:
            given = replace(given, path=self.hub.path, config=given.config or self.hub.config)
        self.source = given
        if labels is not None:
            words = {str(value): str(word).strip() for value, word in labels.items()}
            if words.keys() != self.labels.keys() or len(set(words.values())) < len(words):
                wanted = ", ".join(self.labels) or "none: its answers are names"
                raise ConfigError(
                    f"task {self.name!r}: labels {dict(labels)} given, expected different words for {wanted}"
                )
            self.labels = words

    def row(self, raw: Raw) -> Row | None:
        """Make a row from the values of `columns`, of which no text is empty; None if it has no answer.

        Raises:
            DataError: values that cannot be used.
        """
        *texts, label = self.columns
        prompt = self.template.format(**{column: self.text(raw, column) for column in texts})
        return Row(prompt, self.word(raw[label]))

    def text(self, raw: Raw, column: str) -> str:
        """Return the text of a column, stripped. Raises DataError if the value is not a text."""
        if not isinstance(raw[column], str):
            raise DataError(f"{column} is {raw[column]!r}, expected a text")
        return raw[column].strip()

    def word(self, value: object) -> str:
        """Return the completion for a label of the data, with its space. Raises DataError for an unknown label."""
        if str(value) not in self.labels:
            raise DataError(f"the label is {value!r}, expected one of {', '.join(self.labels)}")
        return f" {self.labels[str(value)]}"

    def examples(self, tokenizer: PreTrainedTokenizerBase, split: Split, n: int, seed: int = 0) -> list[Example]:
        """Return `n` contrastable examples with distinct prompts. Raises DataError if the split has fewer."""
        rows, pool = self._shuffled(split, n, seed), _POOL
        one_token = bool(self.labels)
        while len(found := pair(self.name, rows[:pool], tokenizer, one_token)) < n and pool < len(rows):
            pool *= 4
        seen = min(pool, len(rows))
        if len(found) < n:
            raise DataError(
                f"task {self.name!r}: {n} {split} pairs asked for, but only {len(found)} of {seen} rows of "
                f"{self.source.path} have a corrupted prompt of equal token length and another answer; ask for fewer "
                "pairs, or give more rows"
            )
        if len(found) < seen:
            lost = f"{seen - len(found)} of {seen} {split} rows"
            _log.warning("task %s: %s have no corrupted prompt of equal length and give no pair", self.name, lost)
        return found[:n]

    def dataset(self, tokenizer: PreTrainedTokenizerBase, split: Split, n: int, seed: int = 0) -> Dataset:
        """Return `n` rows with columns prompt and completion, whether or not they can be contrasted."""
        return completions(self._shuffled(split, n, seed)[:n])

    @cached_property
    def _rows(self) -> dict[str, list[Row]]:
        train, test = self.source.read()
        rows = self._parse(train, self.source.path)
        held_out = None if test is None else self._parse(test, self.source.test_path or self.source.path)
        return divided(rows, held_out, lambda row: row.prompt)

    def _parse(self, table: Dataset, path: str) -> list[Row]:
        require_columns(table.column_names, self.columns, f"task {self.name!r} in {path}")
        rows: dict[str, Row] = {}
        for i, raw in enumerate(table.select_columns(list(self.columns))):
            if any(isinstance(value, str) and not value.strip() for value in raw.values()):
                continue
            try:
                row = self.row(raw)
            except DataError as error:
                raise DataError(f"task {self.name!r}, row {i} of {path}: {error}") from error
            if row is not None:
                rows.setdefault(row.prompt, row)
        if len(rows) < len(table):
            lost = f"{len(table) - len(rows)} of {len(table)} rows of {path}"
            _log.warning("task %s: %s are left out: they have no text or no answer, or are repeated", self.name, lost)
        return list(rows.values())

    def _shuffled(self, split: str, n: int, seed: int) -> list[Row]:
        """Return all rows of a split, at least `n`, in an order that the seed decides."""
        rows = self._rows[one_of("split", split, SPLITS)]
        self._require_some(n)
        if len(rows) < n:
            raise DataError(
                f"task {self.name!r}: {n} {split} examples asked for, but {self.source.path} has {len(rows)} different "
                "ones; ask for at most that many"
            )
        return random.Random(f"{self.name}/{split}/{seed}").sample(rows, len(rows))
