"""Greater-than: something that began in 1732 cannot have ended before 1732.

After "The war lasted from the year 1732 to the year 17" any later two-digit year is right. A training row has one later
year, drawn uniformly; a prediction is right if it is any later year. The corrupted prompt starts in the first year that
the tokenizer spells the same way (01 in most), after which every year is possible.
"""

from __future__ import annotations

import random
import re
from typing import TYPE_CHECKING

from ..common.errors import DataError
from .examples import Example, Task, Words
from .words import after_space, listed

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

NOUNS = listed("war trip project reign siege voyage journey drought plague truce")
CENTURIES = tuple(range(11, 20))


class GreaterThan(Task):
    name = "greater_than"
    word_lists = {"nouns": NOUNS}

    def words(self, tokenizer: PreTrainedTokenizerBase) -> Words:
        """The nouns, and `years`: (century, its years spelled as century + two digits) for every usable century."""
        spelled = []
        for century in CENTURIES:
            texts = [f"{century}", *(f"{century}{year:02d}" for year in range(1, 100))]
            head, *whole = after_space(tokenizer, texts)
            years = [year for year, ids in enumerate(whole, 1) if _split_year(ids, head, tokenizer.unk_token_id)]
            if len(years) >= 20:
                spelled.append((century, years))
        if not spelled:
            raise DataError(
                f"task {self.name!r}: this tokenizer does not split years such as 1732 into 17 and 32;"
                " use another tokenizer or another task"
            )
        return {**super().words(tokenizer), "years": spelled}

    def draw(self, rng: random.Random, words: Words) -> Example:
        century, years = rng.choice(words["years"])
        start = rng.randrange(2, len(years) - 1)  # leaves room for the first year, an earlier one and a later one
        later, earlier = rng.choice(years[start + 1 :]), rng.choice(years[1 : start + 1])
        noun = rng.choice(words["nouns"])
        text = lambda year: f"The {noun} lasted from the year {century}{year:02d} to the year {century}"  # noqa: E731
        answer = f"{later:02d}"
        return Example(text(years[start]), answer, text(years[0]), answer, f"{earlier:02d}")

    def correct(self, prompt: str, completion: str, predicted: str) -> bool:
        match = re.search(r"year \d\d(\d\d) to", prompt)
        if match is None:
            raise DataError(f"task {self.name!r}: no starting year in the prompt {prompt!r}")
        return re.fullmatch(r"\d\d", predicted) is not None and int(predicted) > int(match[1])


def _split_year(ids: list[int], head: list[int], unknown: int | None) -> bool:
    return len(head) == 1 and len(ids) == 2 and ids[:1] == head and (unknown is None or unknown not in ids)
