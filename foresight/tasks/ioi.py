"""Indirect object identification: of two people named, the one who does not act is the receiver.

After "When Mary and John went to the store, John gave a drink to" comes " Mary". In the corrupted prompt the other
person acts, which swaps the right and the wrong answer.
"""

from __future__ import annotations

import random

from .examples import Example, Task, Words
from .words import OBJECTS, PLACES, WOMEN_AND_MEN

_TEMPLATES = (
    "When {a} and {b} went to the {place}, {actor} gave a {thing} to",
    "Then {a} and {b} were at the {place}, and {actor} handed the {thing} to",
    "After {a} met {b} near the {place}, {actor} passed a {thing} to",
)


class IndirectObject(Task):
    name = "ioi"
    word_lists = {"names": WOMEN_AND_MEN, "places": PLACES, "things": OBJECTS}

    def draw(self, rng: random.Random, words: Words) -> Example:
        a, b = rng.sample(words["names"], 2)
        template, place, thing = rng.choice(_TEMPLATES), rng.choice(words["places"]), rng.choice(words["things"])
        actor, receiver = rng.choice([(a, b), (b, a)])
        text = lambda who: template.format(a=a, b=b, actor=who, place=place, thing=thing)  # noqa: E731
        return Example(text(actor), f" {receiver}", text(receiver), f" {receiver}", f" {actor}")
