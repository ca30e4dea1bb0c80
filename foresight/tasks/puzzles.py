"""Generated tasks over lists of words, numbers below 100 and truth values.

Numbers are those of one token. Where a tokenizer splits numbers into digits, the tasks that only read numbers (order,
parity) take those of equally many tokens, and arithmetic has results that are one token after a space: "24 - 17 = "
and "7" where every digit is a token, "24 + 35 = " and "59" where two digits are one.

- induction: after "Sequence: lake bird salt moon fire bird" comes " salt moon". The words are random, so only the
  repetition helps. The corrupted prompt has another word where the answer first occurs.
- reverse: after "Reverse: lake bird salt =>" comes " salt bird lake". The corrupted prompt has another last word.
- first, second: after "first: lake bird salt =>" comes " lake", after "item: lake bird salt =>" " bird". The corrupted
  prompt has another word in that place.
- repeated: after "count: lake bird lake salt =>" comes " lake". The corrupted prompt repeats another word.
- kind: is the word in the middle a person or a place? After "type: lake teacher salt =" comes " who", or " at". The
  corrupted prompt has a word of the other kind in the middle.
- arithmetic: after "24 + 35 =" comes " 59". The corrupted prompt has another second operand, whose result is the wrong
  answer.
- order: after "sort: 34 , 78 =" comes " true". The corrupted prompt has the two numbers the other way round.
- parity: after "mode: lake 71 =" comes " false" (the word makes for more prompts). The corrupted prompt has a number of
  the other parity.
- boolean: after "Value: ( not true and false ) or true =" comes " true". Two to four literals, some of them negated,
  joined by `and` and `or`; compound operands are in parentheses, so no rules of precedence are needed. The corrupted
  prompt has literals redrawn until the value changes. Guessing is right half the time.

All tokens of a completion must be right; a contrast pair's answer is the first.
"""

from __future__ import annotations

import random
from functools import partial
from typing import TYPE_CHECKING

from ..common.errors import DataError
from .examples import Example
from .generated_task import GENERATED, GeneratedTask, Words, generated
from .words import ANCHOR, NOUNS, PLACES, ROLES, after_space, known

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transformers import PreTrainedTokenizerBase

_NUMBERS = tuple(str(n) for n in range(100))


@generated("induction", 9, nouns=NOUNS)
def _induction(rng: random.Random, words: Words) -> Example:
    *items, other = rng.sample(words["nouns"], rng.randrange(6, 9))
    at = rng.randrange(len(items) - 3)  # at least one word lies between what is repeated and the repetition
    text = lambda items: f"Sequence: {' '.join(items)} {items[at]}"  # noqa: E731
    completion = f" {items[at + 1]} {items[at + 2]}"
    return Example(text(items), completion, text(_replaced(items, at + 1, other)), f" {items[at + 1]}", f" {other}")


@generated("reverse", nouns=NOUNS)
def _reverse(rng: random.Random, words: Words) -> Example:
    *items, other = rng.sample(words["nouns"], rng.randrange(4, 7))
    text = lambda items: f"Reverse: {' '.join(items)} =>"  # noqa: E731
    completion = "".join(f" {w}" for w in reversed(items))
    return Example(text(items), completion, text([*items[:-1], other]), f" {items[-1]}", f" {other}")


def _word_at(place: int, cue: str, rng: random.Random, words: Words) -> Example:
    *items, other = rng.sample(words["nouns"], rng.randrange(5, 8))
    text = lambda items: f"{cue}: {' '.join(items)} =>"  # noqa: E731
    answer = f" {items[place]}"
    return Example(text(items), answer, text(_replaced(items, place, other)), answer, f" {other}")


generated("first", nouns=NOUNS)(partial(_word_at, 0, "first"))
generated("second", nouns=NOUNS)(partial(_word_at, 1, "item"))


def _replaced(items: list[str], place: int, other: str) -> list[str]:
    return [*items[:place], other, *items[place + 1 :]]


@generated("repeated", nouns=NOUNS)
def _repeated(rng: random.Random, words: Words) -> Example:
    items = rng.sample(words["nouns"], rng.randrange(3, 5))
    twice, other = rng.sample(items, 2)
    at = rng.randrange(len(items) + 1)
    text = lambda word: f"count: {' '.join([*items[:at], word, *items[at:]])} =>"  # noqa: E731
    return Example(text(twice), f" {twice}", text(other), f" {twice}", f" {other}")


@generated("kind", 6, who=ROLES, at=PLACES, nouns=NOUNS)
def _kind(rng: random.Random, words: Words) -> Example:
    right, wrong = rng.sample(["who", "at"], 2)
    before, after = rng.sample(words["nouns"], 2)
    text = lambda kind: f"type: {before} {rng.choice(words[kind])} {after} ="  # noqa: E731
    return Example(text(right), f" {right}", text(wrong), f" {right}", f" {wrong}")


def _alike(tokenizer: PreTrainedTokenizerBase, words: Sequence[str]) -> list[list[str]]:
    """Return the words in groups of equally many tokens after a space, without those that have an unknown token."""
    groups: dict[int, list[str]] = {}
    for word, ids in zip(words, after_space(tokenizer, words), strict=True):
        if tokenizer.unk_token_id not in ids:
            groups.setdefault(len(ids), []).append(word)
    return list(groups.values())


def _continuing(tokenizer: PreTrainedTokenizerBase, before: str, words: Sequence[str]) -> list[str]:
    """Return the words that are one known token when they follow the text `before` without a space."""
    texts = [f"{ANCHOR}{before}", *(f"{ANCHOR}{before}{word}" for word in words)]
    head, *whole = tokenizer(texts, add_special_tokens=False)["input_ids"]
    unknown = tokenizer.unk_token_id
    return [w for w, ids in zip(words, whole, strict=True) if ids[:-1] == head and ids[-1] != unknown]


class _NumberTask(GeneratedTask):
    """A task with numbers in its prompts and none in its answers."""

    def words(self, tokenizer: PreTrainedTokenizerBase) -> Words:
        numbers = self.word_lists["numbers"]
        if len(known(tokenizer, numbers)) >= self.smallest_list:
            return super().words(tokenizer)
        lists = {key: words for key, words in self.word_lists.items() if key != "numbers"}
        rest = GeneratedTask(self.name, self.draw, lists, self.smallest_list).words(tokenizer)
        return {**rest, **self.split(tokenizer, _alike(tokenizer, numbers))}

    def split(self, tokenizer: PreTrainedTokenizerBase, numbers: list[list[str]]) -> Words:
        """The lists to use of numbers in groups of equally many tokens. Raises DataError if too few can be used."""
        largest = max(numbers, key=len, default=[])
        if len(largest) < self.smallest_list:
            raise DataError(f"task {self.name!r}: this tokenizer does not know the digits of numbers")
        return {"numbers": largest}


class _Arithmetic(_NumberTask):
    """Of split numbers it has the list `sums`: per group of equally many tokens, (first operand, sign, the second
    operands with a result that is one token after a space).
    """

    def split(self, tokenizer: PreTrainedTokenizerBase, numbers: list[list[str]]) -> Words:
        results = set(map(int, _continuing(tokenizer, " = ", self.word_lists["numbers"])))
        sums = [_sums(list(map(int, group)), results) for group in numbers]
        if sum(map(len, sums)) < self.smallest_list - 2:
            raise DataError(
                f"task {self.name!r}: only {len(results)} of 100 numbers are one token after a space under this "
                "tokenizer, too few to be results"
            )
        return {"sums": [group for group in sums if group]}


def _sums(numbers: list[int], results: set[int]) -> list[tuple[int, str, list[int]]]:
    found = ((a, sign, [b for b in numbers if _result(a, sign, b) in results]) for a in numbers for sign in "+-")
    return [(a, sign, operands) for a, sign, operands in found if len(operands) > 1]


def _result(a: int, sign: str, b: int) -> int:
    return a + b if sign == "+" else a - b


def _arithmetic(rng: random.Random, words: Words) -> Example:
    if "sums" in words:
        a, sign, operands = rng.choice(rng.choice(words["sums"]))
        b, other = rng.sample(operands, 2)
        result, wrong = _result(a, sign, b), _result(a, sign, other)
        return Example(f"{a} {sign} {b} = ", f"{result}", f"{a} {sign} {other} = ", f"{result}", f"{wrong}")
    numbers = {int(n) for n in words["numbers"]}
    ordered = sorted(numbers)
    while True:
        a, b, other = rng.choice(ordered), rng.choice(ordered), rng.choice(ordered)
        sign = rng.choice("+-")
        result, wrong = _result(a, sign, b), _result(a, sign, other)
        if b != other and result in numbers and wrong in numbers:
            return Example(f"{a} {sign} {b} =", f" {result}", f"{a} {sign} {other} =", f" {result}", f" {wrong}")


def _order(rng: random.Random, words: Words) -> Example:
    a, b = rng.sample(words["numbers"], 2)
    return _judged(f"sort: {a} , {b} =", f"sort: {b} , {a} =", int(a) < int(b))


def _parity(rng: random.Random, words: Words) -> Example:
    word, number = rng.choice(words["nouns"]), rng.choice(words["numbers"])
    other = rng.choice([n for n in words["numbers"] if (int(n) - int(number)) % 2])
    return _judged(f"mode: {word} {number} =", f"mode: {word} {other} =", int(number) % 2 == 0)


GENERATED["arithmetic"] = _Arithmetic("arithmetic", _arithmetic, {"numbers": _NUMBERS}, 20)
GENERATED["order"] = _NumberTask("order", _order, {"numbers": _NUMBERS[10:]}, 20)
GENERATED["parity"] = _NumberTask("parity", _parity, {"numbers": _NUMBERS[10:], "nouns": NOUNS}, 20)


@generated("boolean", values=("true", "false"), operators=("and", "or", "not"))
def _boolean(rng: random.Random, words: Words) -> Example:
    n = rng.randrange(2, 5)
    shape = _Expression(rng, n)
    literals = [rng.random() < 0.5 for _ in range(n)]
    value = shape.value(literals)
    others = literals
    while shape.value(others) == value:  # ends, since no literal is repeated and so no expression is constant
        others = [rng.random() < 0.5 for _ in range(n)]
    clean, corrupted = (f"Value: {shape.text(values)} =" for values in (literals, others))
    return _judged(clean, corrupted, value)


def _judged(clean: str, corrupted: str, holds: bool) -> Example:
    answer, wrong = (" true", " false") if holds else (" false", " true")
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
