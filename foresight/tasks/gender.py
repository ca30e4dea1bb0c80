"""Gender: the pronoun that goes with a first name.

After "So Paul is such a good friend, isn't" comes " he". The corrupted prompt has a name from the other list. The lists
hold names that English text mostly uses for women or for men; the task tests what a model has picked up from it.
"""

from __future__ import annotations

import random

from .examples import Example, Task, Words
from .words import MEN, ROLES, WOMEN

_TEMPLATES = (
    "So {name} is such a good {role}, isn't",
    "I met {name}, the {role}, and I think that",
    "The {role} who came first was {name}, and then",
    "{opening} {name} had been a {role} for years, so",
)
_OPENINGS = ("Because", "Since", "Although")


class Gender(Task):
    name = "gender"
    word_lists = {"women": WOMEN, "men": MEN, "roles": ROLES}

    def draw(self, rng: random.Random, words: Words) -> Example:
        names = {" she": rng.choice(words["women"]), " he": rng.choice(words["men"])}
        answer, wrong = rng.choice([(" she", " he"), (" he", " she")])
        template, role, opening = rng.choice(_TEMPLATES), rng.choice(words["roles"]), rng.choice(_OPENINGS)
        text = lambda key: template.format(name=names[key], role=role, opening=opening)  # noqa: E731
        return Example(text(answer), answer, text(wrong), answer, wrong)
