"""Kind: is the word in the middle a person or a place? After "type: lake teacher salt =" comes " who", or " at".

The corrupted prompt has a word of the other kind in the middle.
"""

from __future__ import annotations

import random

from .examples import Example, Task, Words
from .words import NOUNS, PLACES, ROLES


class Kind(Task):
    name = "kind"
    word_lists = {"who": ROLES, "at": PLACES, "nouns": NOUNS}
    smallest_list = 6

    def draw(self, rng: random.Random, words: Words) -> Example:
        right, wrong = rng.sample(["who", "at"], 2)
        before, after = rng.sample(words["nouns"], 2)
        text = lambda kind: f"type: {before} {rng.choice(words[kind])} {after} ="  # noqa: E731
        return Example(text(right), f" {right}", text(wrong), f" {right}", f" {wrong}")
