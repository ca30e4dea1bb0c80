"""A task: one seeded generator of examples, from which both training data and contrast pairs are made.

A task draws an `Example`: a prompt with its completion, and a corrupted prompt of the same token length after which
`wrong_answer` should win over `answer`, the first token of the completion. Answers carry their own leading space where
the text has one, so that ``prompt + answer`` tokenizes as plain text.

Train and test are disjoint by construction: a hash of a prompt's text decides which split it belongs to.
"""

from __future__ import annotations

import hashlib
import random
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from datasets import Dataset

from ..common.errors import ConfigError, DataError
from .pairs import check_pairs
from .words import known

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Split = Literal["train", "test"]
SPLITS = ("train", "test")
TEST_SHARE = 0.2
_DRAWS_PER_EXAMPLE = 200  # a task that gives no new prompt in so many draws is taken to be exhausted

Words = Mapping[str, Sequence]


@dataclass(frozen=True)
class Example:
    """One draw from a task, as texts."""

    prompt: str
    completion: str
    corrupted: str
    answer: str
    wrong_answer: str


def split_of(prompt: str) -> Split:
    """Return the split that a prompt belongs to, the same in every process and version of Python."""
    share = int.from_bytes(hashlib.sha256(prompt.encode()).digest()[:8], "big") / 2**64
    return "test" if share < TEST_SHARE else "train"


def completions(rows: Sequence) -> Dataset:
    """Make a table with columns prompt and completion from objects that have both."""
    return Dataset.from_dict({"prompt": [r.prompt for r in rows], "completion": [r.completion for r in rows]})


class Task(ABC):
    """Base of all tasks. A generated task names itself, lists its words and draws examples."""

    name: str
    word_lists: ClassVar[Mapping[str, Sequence[str]]] = {}
    smallest_list: ClassVar[int] = 8

    @abstractmethod
    def draw(self, rng: random.Random, words: Words) -> Example:
        """Draw one example made of `words`, the lists that the method `words` returned."""

    def words(self, tokenizer: PreTrainedTokenizerBase) -> Words:
        """Return the word lists, reduced to words that are one token under `tokenizer`.

        Raises:
            DataError: a list becomes too short for the task to mean anything.
        """
        lists = {}
        for key, candidates in self.word_lists.items():
            lists[key] = known(tokenizer, candidates)
            if len(lists[key]) < min(self.smallest_list, len(candidates)):
                raise DataError(
                    f"task {self.name!r}: only {len(lists[key])} of {len(candidates)} words of the list {key!r} are "
                    f"single tokens under this tokenizer, at least {min(self.smallest_list, len(candidates))} are "
                    "needed; use another tokenizer or another task"
                )
        return lists

    def correct(self, prompt: str, completion: str, predicted: str) -> bool:
        """Whether the text `predicted` (the argmax tokens, decoded and stripped) is right after `prompt`."""
        return predicted.split() == completion.split()

    def stream(self, tokenizer: PreTrainedTokenizerBase, split: Split = "train", seed: int = 0) -> Iterator[Example]:
        """Yield seeded examples of one split without end; prompts may repeat."""
        if split not in SPLITS:
            raise ConfigError(f"split {split!r}: expected one of {', '.join(SPLITS)}")
        words = self.words(tokenizer)
        rng = random.Random(f"{self.name}/{split}/{seed}")  # a string seed is hashed with SHA-512: stable
        while True:
            example = self.draw(rng, words)
            if split_of(example.prompt) == split:
                yield example

    def examples(self, tokenizer: PreTrainedTokenizerBase, split: Split, n: int, seed: int = 0) -> list[Example]:
        """Return `n` examples with distinct prompts. Raises DataError if the split has fewer."""
        if n < 1:
            raise ConfigError(f"task {self.name!r}: {n} examples asked for, expected at least 1")
        found: dict[str, Example] = {}
        idle = 0
        for example in self.stream(tokenizer, split, seed):
            idle = idle + 1 if example.prompt in found else 0
            found.setdefault(example.prompt, example)
            if len(found) == n:
                return list(found.values())
            if idle > _DRAWS_PER_EXAMPLE:
                break
        raise DataError(
            f"task {self.name!r}: {n} {split} examples asked for, but this tokenizer allows only about {len(found)} "
            "distinct prompts; ask for at most that many"
        )

    def dataset(self, tokenizer: PreTrainedTokenizerBase, split: Split, n: int, seed: int = 0) -> Dataset:
        """Return `n` rows with columns prompt and completion, as SFTTrainer takes them."""
        return completions(self.examples(tokenizer, split, n, seed))

    def contrast(self, tokenizer: PreTrainedTokenizerBase, split: Split, n: int, seed: int = 0) -> Dataset:
        """Return `n` contrast pairs: columns clean, corrupted, answer, wrong_answer.

        The clean prompts belong to `split`; a corrupted prompt may belong to either split.

        Raises:
            DataError: the split has fewer, or a pair cannot be used under `tokenizer` (see `check_pairs`).
        """
        rows = self.examples(tokenizer, split, n, seed)
        pairs = Dataset.from_dict(
            {
                "clean": [e.prompt for e in rows],
                "corrupted": [e.corrupted for e in rows],
                "answer": [e.answer for e in rows],
                "wrong_answer": [e.wrong_answer for e in rows],
            }
        )
        check_pairs(pairs, tokenizer)
        return pairs
