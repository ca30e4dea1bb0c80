"""Boolean: the value of an expression such as "( not true and false ) or true".

An expression is a tree of two to four literals, some of them negated, joined by `and` and `or`. Compound operands are
in parentheses, so no rules of precedence are needed. The corrupted prompt has literals redrawn until the value changes.
Guessing is right half the time.
"""

from __future__ import annotations

import random

from .examples import Example, Task, Words


class Boolean(Task):
    name = "boolean"
    word_lists = {"values": ("true", "false"), "operators": ("and", "or", "not")}

    def draw(self, rng: random.Random, words: Words) -> Example:
        n = rng.randrange(2, 5)
        shape = _Expression(rng, n)
        literals = [rng.random() < 0.5 for _ in range(n)]
        value = shape.value(literals)
        others = literals
        while shape.value(others) == value:  # ends, since no literal is repeated and so no expression is constant
            others = [rng.random() < 0.5 for _ in range(n)]
        answer, wrong = (" true", " false") if value else (" false", " true")
        clean, corrupted = (f"Value: {shape.text(values)} =" for values in (literals, others))
        return Example(clean, answer, corrupted, answer, wrong)


class _Expression:
    """A random tree over the literals first .. first + n - 1, whose values are passed to its methods."""

    def __init__(self, rng: random.Random, n: int, first: int = 0):
        self.first = first
        self.parts: tuple[_Expression, _Expression] | None = None
        if n == 1:
            self.negated = rng.random() < 0.15
        else:
            left = rng.randrange(1, n)
            self.operator = rng.choice(("and", "or"))
            self.parts = _Expression(rng, left, first), _Expression(rng, n - left, first + left)

    def value(self, literals: list[bool]) -> bool:
        if self.parts is None:
            return literals[self.first] != self.negated
        left, right = (part.value(literals) for part in self.parts)
        return (left and right) if self.operator == "and" else (left or right)

    def text(self, literals: list[bool], inner: bool = False) -> str:
        if self.parts is None:
            word = "true" if literals[self.first] else "false"
            return f"not {word}" if self.negated else word
        left, right = (part.text(literals, inner=True) for part in self.parts)
        joined = f"{left} {self.operator} {right}"
        return f"( {joined} )" if inner else joined
