"""Arithmetic: sums and differences of numbers below 100. After "24 + 35 =" comes " 59".

The corrupted prompt has another second operand, whose result is the wrong answer. Only numbers that the tokenizer
spells with one token are used.
"""

from __future__ import annotations

import random

from .examples import Example, Task, Words


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
