"""Questions with lettered choices, answered by a letter. Their corrupted prompts swap two choices.

- openbookqa (Mihaylov et al., 2018): elementary science. Hub: allenai/openbookqa, configuration main, splits train
  (4,957 rows) and validation (500); columns question_stem, choices (text and label, lists of four), answerKey (A to D).
- winogrande (Sakaguchi et al., 2020): which of two options fills the blank? Hub: allenai/winogrande, configuration
  winogrande_xl, splits train (40,398 rows) and validation (1,267); columns sentence (with one _), option1, option2,
  answer (1 or 2).
"""

from __future__ import annotations

from collections.abc import Sequence

from ...common.errors import DataError
from .data_task import DataTask
from .pairing import Raw, Row
from .source import Source


class OpenBookQA(DataTask):
    name = "openbookqa"
    hub = Source("allenai/openbookqa", "main")
    columns = ("question_stem", "choices", "answerKey")
    labels = {"A": "A", "B": "B", "C": "C", "D": "D"}

    def row(self, raw: Raw) -> Row:
        choices, keys = raw["choices"], list(self.labels)
        if not isinstance(choices, dict) or choices.get("label") != keys or len(choices.get("text") or ()) != len(keys):
            raise DataError(f"choices is {choices!r}, expected {{'text': [four texts], 'label': {keys}}}")
        self.word(raw["answerKey"])  # refuses unknown keys
        question = f"Question: {self.text(raw, 'question_stem')}"
        return _choose(question, choices["text"], keys.index(raw["answerKey"]), list(self.labels.values()))


class Winogrande(DataTask):
    name = "winogrande"
    hub = Source("allenai/winogrande", "winogrande_xl")
    columns = ("sentence", "option1", "option2", "answer")
    labels = {"1": "A", "2": "B"}

    def row(self, raw: Raw) -> Row:
        self.word(raw["answer"])  # refuses unknown answers
        options = [self.text(raw, "option1"), self.text(raw, "option2")]
        question = f"{self.text(raw, 'sentence')}\nWhat is _?"
        return _choose(question, options, int(raw["answer"]) - 1, list(self.labels.values()))


def _choose(question: str, choices: Sequence[str], right: int, letters: Sequence[str]) -> Row:
    """Make a row that asks for the letter of `choices[right]`; its corrupted prompt swaps that choice with the next."""

    def text(order: Sequence[str]) -> str:
        listed = "".join(f"\n{letter}. {choice}" for letter, choice in zip(letters, order, strict=True))
        return f"{question}{listed}\nAnswer:"

    other = (right + 1) % len(choices)
    swapped = list(choices)
    swapped[right], swapped[other] = choices[other], choices[right]
    return Row(text(choices), f" {letters[right]}", swapped=(text(swapped), f" {letters[other]}"))
