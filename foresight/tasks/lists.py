"""Look-ups in a list of words: the first word, the second, the one that occurs twice.

After "first: lake bird salt =>" comes " lake", after "item: lake bird salt =>" " bird", and after
"count: lake bird lake salt =>" " lake". The corrupted prompt has another word in that place, or repeats another word.
"""

from __future__ import annotations

import random

from .examples import Example, Task, Words
from .words import NOUNS


class First(Task):
    name = "first"
    word_lists = {"nouns": NOUNS}
    cue, place = "first", 0

    def draw(self, rng: random.Random, words: Words) -> Example:
        *items, other = rng.sample(words["nouns"], rng.randrange(5, 8))
        changed = [*items[: self.place], other, *items[self.place + 1 :]]
        text = lambda items: f"{self.cue}: {' '.join(items)} =>"  # noqa: E731
        answer = f" {items[self.place]}"
        return Example(text(items), answer, text(changed), answer, f" {other}")


class Second(First):
    name = "second"
    cue, place = "item", 1


class Repeated(Task):
    name = "repeated"
    word_lists = {"nouns": NOUNS}

    def draw(self, rng: random.Random, words: Words) -> Example:
        items = rng.sample(words["nouns"], rng.randrange(3, 5))
        twice, other = rng.sample(items, 2)
        at = rng.randrange(len(items) + 1)
        text = lambda word: f"count: {' '.join([*items[:at], word, *items[at:]])} =>"  # noqa: E731
        return Example(text(twice), f" {twice}", text(other), f" {twice}", f" {other}")
