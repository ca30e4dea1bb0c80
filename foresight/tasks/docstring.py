"""Docstring: parameters are documented in the order of the signature.

After ``def port(self, load, size, file): '''oil`` with ``:param load: …``, ``:param size: …`` and a bare ``:param``
comes " file". The corrupted prompt has another name in that place of the signature.
"""

from __future__ import annotations

import random

from .examples import Example, Task, Words
from .words import ARGUMENTS, NOUNS, VERBS


class Docstring(Task):
    name = "docstring"
    word_lists = {"verbs": VERBS, "arguments": ARGUMENTS, "nouns": NOUNS}

    def draw(self, rng: random.Random, words: Words) -> Example:
        *arguments, other = rng.sample(words["arguments"], rng.randrange(4, 6))
        asked = rng.randrange(1, len(arguments))
        verb = rng.choice(words["verbs"])
        lines = [f"\n    :param {name}: {rng.choice(words['nouns'])}" for name in arguments[:asked]]
        summary = rng.choice(words["nouns"])

        def text(names: list[str]) -> str:
            return f"def {verb}(self, {', '.join(names)}):\n    ''' {summary}\n" + "".join(lines) + "\n    :param"

        answer = f" {arguments[asked]}"
        corrupted = [*arguments[:asked], other, *arguments[asked + 1 :]]
        return Example(text(arguments), answer, text(corrupted), answer, f" {other}")
