"""Induction: what followed a word before follows it again.

After "Sequence: lake bird salt moon fire bird" comes " salt moon". The words are random, so only the repetition helps,
and all tokens of the completion must be right. The contrast pair's answer is the first of them; the corrupted prompt
has another word at its first occurrence.
"""

from __future__ import annotations

import random

from .examples import Example, Task, Words
from .words import NOUNS


class Induction(Task):
    name = "induction"
    word_lists = {"nouns": NOUNS}
    smallest_list = 9

    def draw(self, rng: random.Random, words: Words) -> Example:
        *items, other = rng.sample(words["nouns"], rng.randrange(6, 9))
        at = rng.randrange(len(items) - 3)  # at least one word lies between what is repeated and the repetition
        text = lambda items: f"Sequence: {' '.join(items)} {items[at]}"  # noqa: E731
        corrupted = [*items[: at + 1], other, *items[at + 2 :]]
        completion = f" {items[at + 1]} {items[at + 2]}"
        return Example(text(items), completion, text(corrupted), f" {items[at + 1]}", f" {other}")
