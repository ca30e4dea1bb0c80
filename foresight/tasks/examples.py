"""What a task gives: examples, from which both training data and contrast pairs are made.

Train and test are disjoint by construction: where no test table is given, a hash of a prompt's text decides which split
it belongs to.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from datasets import Dataset

from ..common.errors import ConfigError
from .columns import PAIR_COLUMNS, check_pairs

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Split = Literal["train", "test"]
SPLITS = ("train", "test")
TEST_SHARE = 0.2
T = TypeVar("T")


@dataclass(frozen=True)
class Example:
    """A prompt with its completion, and a corrupted prompt of the same token length.

    After the corrupted prompt, `wrong_answer` should win over `answer`, the first token of the completion. Answers
    carry their own leading space where the text has one, so that ``prompt + answer`` tokenizes as plain text.
    """

    prompt: str
    completion: str
    corrupted: str
    answer: str
    wrong_answer: str


class Task(ABC):
    """Base of all tasks: training data, contrast pairs and a metric."""

    name: str

    @abstractmethod
    def dataset(self, tokenizer: PreTrainedTokenizerBase, split: Split, n: int, seed: int = 0) -> Dataset:
        """Return `n` rows with columns prompt and completion, as SFTTrainer takes them."""

    @abstractmethod
    def examples(self, tokenizer: PreTrainedTokenizerBase, split: Split, n: int, seed: int = 0) -> list[Example]:
        """Return `n` examples with distinct prompts. Raises DataError if the split has fewer."""

    def contrast(self, tokenizer: PreTrainedTokenizerBase, split: Split, n: int, seed: int = 0) -> Dataset:
        """Return `n` contrast pairs: columns clean, corrupted, answer, wrong_answer.

        The clean prompts belong to `split`; a corrupted prompt may belong to either split.

        Raises:
            DataError: the split has fewer, or a pair cannot be used under `tokenizer` (see `check_pairs`).
        """
        rows = self.examples(tokenizer, split, n, seed)
        values = ((e.prompt, e.corrupted, e.answer, e.wrong_answer) for e in rows)
        pairs = Dataset.from_list([dict(zip(PAIR_COLUMNS, row, strict=True)) for row in values])
        check_pairs(pairs, tokenizer)
        return pairs

    def correct(self, prompt: str, completion: str, predicted: str) -> bool:
        """Whether the text `predicted` (the argmax tokens, decoded and stripped) is right after `prompt`."""
        return predicted.split() == completion.split()

    def _require_some(self, n: int) -> None:
        if n < 1:
            raise ConfigError(f"task {self.name!r}: {n} examples asked for, expected at least 1")


def split_of(prompt: str) -> Split:
    """Return the split that a prompt belongs to, the same in every process and version of Python."""
    share = int.from_bytes(hashlib.sha256(prompt.encode()).digest()[:8], "big") / 2**64
    return "test" if share < TEST_SHARE else "train"


def divided(rows: Sequence[T], test: Sequence[T] | None, prompt_of: Callable[[T], str]) -> dict[str, list[T]]:
    """Return rows by split: divided by `split_of`, or `test` and the rows whose prompts are not in it."""
    if test is None:
        return {split: [row for row in rows if split_of(prompt_of(row)) == split] for split in SPLITS}
    held_out = {prompt_of(row) for row in test}
    return {"train": [row for row in rows if prompt_of(row) not in held_out], "test": list(test)}


def completions(rows: Sequence[Any]) -> Dataset:
    """Make a table with columns prompt and completion from objects that have both."""
    return Dataset.from_dict({"prompt": [r.prompt for r in rows], "completion": [r.completion for r in rows]})
