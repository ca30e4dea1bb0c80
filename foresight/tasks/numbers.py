"""Tasks over numbers below 100, of those that the tokenizer spells with one token: sums, order, parity.

- arithmetic: after "24 + 35 =" comes " 59". The corrupted prompt has another second operand, whose result is the wrong
  answer.
- order: after "sort: 34 , 78 =" comes " true". The corrupted prompt has the two numbers the other way round.
- parity: after "mode: lake 71 =" comes " false" (the word makes for more prompts). The corrupted prompt has a number of
  the other parity.
"""

from __future__ import annotations

import random

from .examples import Example, Task, Words
from .words import NOUNS

_NUMBERS = tuple(str(n) for n in range(10, 100))


class Arithmetic(Task):
    name = "arithmetic"
    word_lists = {"numbers": tuple(str(n) for n in range(100))}
    smallest_list = 20

    def draw(self, rng: random.Random, words: Words) -> Example:
        numbers = {int(n) for n in words["numbers"]}
        ordered = sorted(numbers)
        while True:
            a, b, other = rng.choice(ordered), rng.choice(ordered), rng.choice(ordered)
            sign = rng.choice("+-")
            result, wrong = (a + b, a + other) if sign == "+" else (a - b, a - other)
            if b != other and result in numbers and wrong in numbers:
                return Example(f"{a} {sign} {b} =", f" {result}", f"{a} {sign} {other} =", f" {result}", f" {wrong}")


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
