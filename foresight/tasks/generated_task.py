"""Generated tasks: a seeded function draws examples from word lists."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from datasets import Dataset

from ..common.errors import DataError, one_of
from . import TASKS, task
from .examples import SPLITS, Example, Split, Task, completions, split_of
from .words import known

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_DRAWS_PER_EXAMPLE = 200  # a task that gives no new prompt in so many draws is taken to be exhausted

Words = Mapping[str, Sequence]
Draw = Callable[[random.Random, Words], Example]


class GeneratedTask(Task):
    """A task that draws its examples.

    Args:
        draw: draws one example made of the lists that the method `words` returned.
        word_lists: words by the name of the list; those that the tokenizer spells with one token are used.
        smallest_list: how many of a list must be left for the task to mean anything (all, of a shorter list).
    """

    def __init__(self, name: str, draw: Draw, word_lists: Mapping[str, Sequence[str]], smallest_list: int = 8):
        self.name = name
        self.draw = draw
        self.word_lists = word_lists
        self.smallest_list = smallest_list

    def words(self, tokenizer: PreTrainedTokenizerBase) -> Words:
        """Return the word lists, reduced to words that are one token. Raises DataError if too few are left."""
        lists = {}
        for key, candidates in self.word_lists.items():
            lists[key], fewest = known(tokenizer, candidates), min(self.smallest_list, len(candidates))
            if len(lists[key]) < fewest:
                raise DataError(
                    f"task {self.name!r}: only {len(lists[key])} of {len(candidates)} words of the list {key!r} are "
                    f"single tokens under this tokenizer, at least {fewest} are needed"
                )
        return lists

    def stream(self, tokenizer: PreTrainedTokenizerBase, split: Split = "train", seed: int = 0) -> Iterator[Example]:
        """Yield seeded examples of one split without end; prompts may repeat. Raises DataError if the tokenizer does
        not spell them as the task needs it, and names the generated tasks that it does spell.
        """
        one_of("split", split, SPLITS)
        try:
            words = self.words(tokenizer)
        except DataError as error:
            others = ", ".join(name for name in TASKS if _spells(tokenizer, name)) or "none"
            raise DataError(f"{error}; use another tokenizer, or a task that it can spell: {others}") from None
        rng = random.Random(f"{self.name}/{split}/{seed}")  # a string seed is hashed with SHA-512: stable
        while True:
            example = self.draw(rng, words)
            if split_of(example.prompt) == split:
                yield example

    def examples(self, tokenizer: PreTrainedTokenizerBase, split: Split, n: int, seed: int = 0) -> list[Example]:
        self._require_some(n)
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
        return completions(self.examples(tokenizer, split, n, seed))


def _spells(tokenizer: PreTrainedTokenizerBase, name: str) -> bool:
    try:
        return bool(task(name).words(tokenizer))  # type: ignore[attr-defined]  # it is one of this module's kind
    except DataError:
        return False


GENERATED: dict[str, GeneratedTask] = {}
"""The generated tasks by name, of the modules imported so far."""


def generated(name: str, smallest_list: int = 8, **word_lists: Sequence[str]) -> Callable[[Draw], Draw]:
    """Decorator: make a function that draws examples a task of that name."""

    def register(draw: Draw) -> Draw:
        GENERATED[name] = GeneratedTask(name, draw, word_lists, smallest_list)
        return draw

    return register
