"""Generated tasks of natural text and code, known from the literature on circuits.

- ioi, indirect object identification: after "When Mary and John went to the store, John gave a drink to" comes " Mary".
  In the corrupted prompt the other person acts, which swaps the right and the wrong answer.
- gender: after "So Paul is such a good friend, isn't" comes " he". The corrupted prompt has a name from the other list.
  The lists hold names that English text mostly uses for women or for men; the task tests what a model has picked up.
- docstring: after ``def port(self, load, size, file): '''oil`` with ``:param load: …``, ``:param size: …`` and a bare
  ``:param`` comes " file". The corrupted prompt has another name in that place of the signature.
- greater_than: after "The war lasted from the year 1732 to the year 17" any later two-digit year is right. A training
  row has one later year, drawn uniformly. The corrupted prompt starts in the first year that the tokenizer spells the
  same way (01 in most), after which every year is possible. Where a tokenizer splits years into digits, the prompt goes
  on to "the year 173", and any digit above 2 is right.
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
    """Its list `years` has (stem, how the years go on that are spelled as the stem and one more token): centuries and
    two digits, or decades and one digit where the tokenizer knows no two digits after a century.
    """

    def words(self, tokenizer: PreTrainedTokenizerBase) -> Words:
        centuries = _spelled(tokenizer, range(11, 20), [f"{year:02d}" for year in range(1, 100)], 20, one_token=True)
        years = centuries or _spelled(tokenizer, range(110, 200), list("0123456789"), 10)
        if not years:
            raise DataError(f"task {self.name!r}: this tokenizer splits 1732 neither into 17 and 32 nor into 173 and 2")
        return {**super().words(tokenizer), "years": years}

    def correct(self, prompt: str, completion: str, predicted: str) -> bool:
        match = re.search(r"year (\d{4}) to the year (\d+)$", prompt)
        if match is None:
            raise DataError(f"task {self.name!r}: no starting year in the prompt {prompt!r}")
        year = match[2] + predicted
        return re.fullmatch(r"\d{4}", year) is not None and int(year) > int(match[1])


def _spelled(
    tokenizer: PreTrainedTokenizerBase, stems: range, ends: list[str], fewest: int, one_token: bool = False
) -> list[tuple[int, list[str]]]:
    """(stem, its ends) for stems with enough ends that are one known token after the stem."""
    found = []
    for stem in stems:
        head, *whole = after_space(tokenizer, [f"{stem}", *(f"{stem}{end}" for end in ends)])
        fits = [ids[:-1] == head and tokenizer.unk_token_id not in ids for ids in whole]
        if sum(fits) >= fewest and (len(head) == 1 or not one_token):
            found.append((stem, [end for end, fit in zip(ends, fits, strict=True) if fit]))
    return found


def _later_year(rng: random.Random, words: Words) -> Example:
    stem, ends = rng.choice(words["years"])
    start = rng.randrange(2, len(ends) - 1)  # leaves room for the first year, an earlier one and a later one
    later, earlier = rng.choice(ends[start + 1 :]), rng.choice(ends[1 : start + 1])
    noun = rng.choice(words["nouns"])
    text = lambda end: f"The {noun} lasted from the year {stem}{end} to the year {stem}"  # noqa: E731
    return Example(text(ends[start]), later, text(ends[0]), later, earlier)


GENERATED["greater_than"] = _GreaterThan("greater_than", _later_year, {"nouns": DURATIONS})
