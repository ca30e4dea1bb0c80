"""Tasks over a list of words: repeat what followed, reverse it, name the first, the second or the repeated word.

A contrast pair's answer is the first token of the completion; all tokens of a completion must be right.

- induction: after "Sequence: lake bird salt moon fire bird" comes " salt moon". The words are random, so only the
  repetition helps. The corrupted prompt has another word where the answer first occurs.
- reverse: after "Reverse: lake bird salt =>" comes " salt bird lake". The corrupted prompt has another last word.
- first, second: after "first: lake bird salt =>" comes " lake", after "item: lake bird salt =>" " bird". The corrupted
  prompt has another word in that place.
- repeated: after "count: lake bird lake salt =>" comes " lake". The corrupted prompt repeats another word.
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


class Reverse(Task):
    name = "reverse"
    word_lists = {"nouns": NOUNS}

    def draw(self, rng: random.Random, words: Words) -> Example:
        *items, other = rng.sample(words["nouns"], rng.randrange(4, 7))
        text = lambda items: f"Reverse: {' '.join(items)} =>"  # noqa: E731
        completion = "".join(f" {w}" for w in reversed(items))
        return Example(text(items), completion, text([*items[:-1], other]), f" {items[-1]}", f" {other}")


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
