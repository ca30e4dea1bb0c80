"""Reverse: a short list of words, backwards. After "Reverse: lake bird salt =>" comes " salt bird lake".

All tokens of the completion must be right. The contrast pair's answer is the first of them, the last word of the list,
which the corrupted prompt replaces.
"""

from __future__ import annotations

import random

from .examples import Example, Task, Words
from .words import NOUNS


class Reverse(Task):
    name = "reverse"
    word_lists = {"nouns": NOUNS}

    def draw(self, rng: random.Random, words: Words) -> Example:
        *items, other = rng.sample(words["nouns"], rng.randrange(4, 7))
        text = lambda items: f"Reverse: {' '.join(items)} =>"  # noqa: E731
        completion = "".join(f" {w}" for w in reversed(items))
        return Example(text(items), completion, text([*items[:-1], other]), f" {items[-1]}", f" {other}")
