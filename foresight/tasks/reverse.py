"""Reverse: a short list of words, backwards; "Reverse: lake bird salt =>" to " salt bird lake".

All tokens of the completion must be right. The answer of the contrast pair is the
first, the list's last word, which the corrupted prompt replaces.
"""

from __future__ import annotations

import random

from .base import Example, Task, Words
from .words import NOUNS


class Reverse(Task):
    name = "reverse"
    word_lists = {"nouns": NOUNS}

    def draw(self, rng: random.Random, words: Words) -> Example:
        *items, other = rng.sample(words["nouns"], rng.randrange(4, 7))
        text = lambda items: f"Reverse: {' '.join(items)} =>"  # noqa: E731
        completion = "".join(f" {w}" for w in reversed(items))
        return Example(text(items), completion, text([*items[:-1], other]), f" {items[-1]}", f" {other}")
