"""A user's own task: JSONL files of prompts with completions, of contrast pairs, or of both.

A file is one table; a folder has ``train.jsonl``, and optionally ``test.jsonl`` and ``contrast.jsonl``. Rows have the
columns clean, corrupted, answer and wrong_answer, or prompt and completion, or all six. Where there is no prompt, the
clean text is the prompt and the answer its completion. Without a test file, a hash of the prompt decides which split a
row belongs to (a fifth is held out). Without a contrast file, the training rows that are contrast pairs serve.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from functools import cached_property
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datasets import Dataset

from ..common.errors import DataError, did_you_mean, one_of
from .columns import PAIR_COLUMNS
from .examples import SPLITS, Example, Split, Task, divided
from .read_table import read_table

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_TEXT = ("prompt", "completion")
Row = Mapping[str, Any]


class UserTask(Task):
    """The task in a JSONL file or a folder of them. Its name is the path.

    Raises:
        DataError: a file that is missing or cannot be read, or rows without the columns that a task needs.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.name = str(path)
        folder = self.path.is_dir()
        self._train = _read(self.path / "train.jsonl" if folder else self.path)
        test, contrast = self.path / "test.jsonl", self.path / "contrast.jsonl"
        self._test = _read(test) if folder and test.exists() else None
        self._contrast = _read(contrast) if folder and contrast.exists() else None

    @property
    def has_pairs(self) -> bool:
        """Whether there are contrast pairs, so that attribution patching can score it."""
        return set(PAIR_COLUMNS) <= set((self._contrast or self._train)[0])

    def dataset(self, tokenizer: PreTrainedTokenizerBase, split: Split, n: int, seed: int = 0) -> Dataset:
        """Return at most `n` rows with columns prompt and completion, in an order that the seed decides."""
        rows = self._shuffled(self._of(split), n, seed)
        return Dataset.from_list([{column: row[column] for column in _TEXT} for row in rows])

    def examples(self, tokenizer: PreTrainedTokenizerBase, split: Split, n: int, seed: int = 0) -> list[Example]:
        """Return at most `n` contrast pairs; a contrast file serves both splits. Raises DataError if there are none."""
        if not self.has_pairs:
            raise DataError(
                f"task {self.name} has no contrast pairs; add the columns {', '.join(PAIR_COLUMNS)}, or score with "
                "gradient_activation"
            )
        rows = self._of(split) if self._contrast is None else self._contrast
        return [
            Example(row["clean"], row["completion"], row["corrupted"], row["answer"], row["wrong_answer"])
            for row in self._shuffled(rows, n, seed)
        ]

    @cached_property
    def _rows(self) -> dict[str, list[Row]]:
        return divided(self._train, self._test, itemgetter("prompt"))

    def _of(self, split: Split) -> list[Row]:
        if found := self._rows[one_of("split", split, SPLITS)]:
            return found
        if self._test is None:
            raise DataError(
                f"task {self.name}: none of its {len(self._train)} rows falls into split {split!r}, which a hash of "
                "their prompts decides; add rows, or a folder with train.jsonl and test.jsonl"
            )
        raise DataError(f"task {self.name}: all {len(self._train)} training prompts are test prompts too; remove some")

    def _shuffled(self, rows: Sequence[Row], n: int, seed: int) -> list[Row]:
        self._require_some(n)
        order = list(rows)
        random.Random(f"{self.path.name}/{seed}").shuffle(order)
        return order[:n]


def _read(path: Path) -> list[Row]:
    table = read_table(path)
    columns = table.column_names
    for wanted in (_TEXT, PAIR_COLUMNS):
        if set(wanted) <= set(columns):
            break
    else:
        every = (*_TEXT, *PAIR_COLUMNS)
        hints = "".join(did_you_mean(name, every) for name in columns if name not in every)
        raise DataError(
            f"{path} has the columns {', '.join(columns)}{hints}; expected prompt and completion, or "
            f"{', '.join(PAIR_COLUMNS)}"
        )
    used = [column for column in (*_TEXT, *PAIR_COLUMNS) if column in columns]
    rows = table.select_columns(used).to_list()
    for i, row in enumerate(rows):
        for column, value in row.items():
            if not isinstance(value, str) or (value == "" and column != "prompt"):
                raise DataError(f"{path}, row {i}: {column} is {value!r}, expected a text; the row is {row}")
    return [{"prompt": row.get("clean"), "completion": row.get("answer"), **row} for row in rows]
