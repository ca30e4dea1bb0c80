"""Generated tasks of natural text and code, known from the literature on circuits.

- ioi, indirect object identification: after "When Mary and John went to the store, John gave a drink to" comes " Mary".
  In the corrupted prompt the other person acts, which swaps the right and the wrong answer.
- gender: after "So Paul is such a good friend, isn't" comes " he". The corrupted prompt has a name from the other list.
  The lists hold names that English text mostly uses for women or for men; the task tests what a model has picked up.
- docstring: after ``def port(self, load, size, file): '''oil`` with ``:param load: …``, ``:param size: …`` and a bare
  ``:param`` comes " file". The corrupted prompt has another name in that place of the signature.
- greater_than: after "The war lasted from the year 1732 to the year 17" any later two-digit year is right. A training
  row has one later year, drawn uniformly. The corrupted prompt starts in the first year that the tokenizer spells the
  same way (01 in most), after which every year is possible.
"""

from __future__ import annotations

import random
import re
from typing import TYPE_CHECKING

from ..common.errors import DataError
from .examples import Example
from .generated_task import GENERATED, GeneratedTask, Words, generated
from .words import ARGUMENTS, DURATIONS, MEN, NOUNS, OBJECTS, PLACES, ROLES, VERBS, WOMEN, after_space

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_GIVING = (
    "When {a} and {b} went to the {place}, {actor} gave a {thing} to",
    "Then {a} and {b} were at the {place}, and {actor} handed the {thing} to",
    "After {a} met {b} near the {place}, {actor} passed a {thing} to",
)
_BEING = (
    "So {name} is such a good {role}, isn't",
    "I met {name}, the {role}, and I think that",
    "The {role} who came first was {name}, and then",
    "{opening} {name} had been a {role} for years, so",
)
_OPENINGS = ("Because", "Since", "Although")


@generated("ioi", names=WOMEN + MEN, places=PLACES, things=OBJECTS)
def _indirect_object(rng: random.Random, words: Words) -> Example:
    a, b = rng.sample(words["names"], 2)
    template, place, thing = rng.choice(_GIVING), rng.choice(words["places"]), rng.choice(words["things"])
    actor, receiver = rng.choice([(a, b), (b, a)])
    text = lambda who: template.format(a=a, b=b, actor=who, place=place, thing=thing)  # noqa: E731
    return Example(text(actor), f" {receiver}", text(receiver), f" {receiver}", f" {actor}")


@generated("gender", women=WOMEN, men=MEN, roles=ROLES)
def _pronoun(rng: random.Random, words: Words) -> Example:
    names = {" she": rng.choice(words["women"]), " he": rng.choice(words["men"])}
    answer, wrong = rng.choice([(" she", " he"), (" he", " she")])
    template, role, opening = rng.choice(_BEING), rng.choice(words["roles"]), rng.choice(_OPENINGS)
    text = lambda key: template.format(name=names[key], role=role, opening=opening)  # noqa: E731
    return Example(text(answer), answer, text(wrong), answer, wrong)


@generated("docstring", verbs=VERBS, arguments=ARGUMENTS, nouns=NOUNS)
def _parameter(rng: random.Random, words: Words) -> Example:
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


class _GreaterThan(GeneratedTask):
    """Its list `years` has (century, its years that are spelled as century + two digits) for every usable century."""

    def words(self, tokenizer: PreTrainedTokenizerBase) -> Words:
        spelled = []
        for century in range(11, 20):
            texts = [f"{century}", *(f"{century}{year:02d}" for year in range(1, 100))]
            head, *whole = after_space(tokenizer, texts)
            years = [
                year
                for year, ids in enumerate(whole, 1)
                if len(head) == 1 and len(ids) == 2 and ids[:1] == head and tokenizer.unk_token_id not in ids
            ]
            if len(years) >= 20:
                spelled.append((century, years))
        if not spelled:
            raise DataError(
                f"task {self.name!r}: this tokenizer does not split years such as 1732 into 17 and 32;"
                " use another tokenizer or another task"
            )
        return {**super().words(tokenizer), "years": spelled}

    def correct(self, prompt: str, completion: str, predicted: str) -> bool:
        match = re.search(r"year \d\d(\d\d) to", prompt)
        if match is None:
            raise DataError(f"task {self.name!r}: no starting year in the prompt {prompt!r}")
        return re.fullmatch(r"\d\d", predicted) is not None and int(predicted) > int(match[1])


def _later_year(rng: random.Random, words: Words) -> Example:
    century, years = rng.choice(words["years"])
    start = rng.randrange(2, len(years) - 1)  # leaves room for the first year, an earlier one and a later one
    later, earlier = rng.choice(years[start + 1 :]), rng.choice(years[1 : start + 1])
    noun = rng.choice(words["nouns"])
    text = lambda year: f"The {noun} lasted from the year {century}{year:02d} to the year {century}"  # noqa: E731
    answer = f"{later:02d}"
    return Example(text(years[start]), answer, text(years[0]), answer, f"{earlier:02d}")


GENERATED["greater_than"] = _GreaterThan("greater_than", _later_year, {"nouns": DURATIONS})
