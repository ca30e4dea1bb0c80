"""Judgements of numbers below 100: whether two are in ascending order, whether one is even.

After "sort: 34 , 78 =" comes " true", after "mode: lake 71 =" " false" (the word makes for more prompts). The corrupted
prompt has the two numbers the other way round, or a number of the other parity.
"""

from __future__ import annotations

import random

from .examples import Example, Task, Words
from .words import NOUNS

_NUMBERS = tuple(str(n) for n in range(10, 100))


class Order(Task):
    name = "order"
    word_lists = {"numbers": _NUMBERS}
    smallest_list = 20

    def draw(self, rng: random.Random, words: Words) -> Example:
        a, b = rng.sample(words["numbers"], 2)
        return _judged(f"sort: {a} , {b} =", f"sort: {b} , {a} =", int(a) < int(b))


class Parity(Task):
    name = "parity"
    word_lists = {"numbers": _NUMBERS, "nouns": NOUNS}
    smallest_list = 20

    def draw(self, rng: random.Random, words: Words) -> Example:
        word, number = rng.choice(words["nouns"]), rng.choice(words["numbers"])
        other = rng.choice([n for n in words["numbers"] if (int(n) - int(number)) % 2])
        return _judged(f"mode: {word} {number} =", f"mode: {word} {other} =", int(number) % 2 == 0)


def _judged(clean: str, corrupted: str, holds: bool) -> Example:
    answer, wrong = (" true", " false") if holds else (" false", " true")
    return Example(clean, answer, corrupted, answer, wrong)
