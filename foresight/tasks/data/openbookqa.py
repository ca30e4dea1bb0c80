"""OpenBookQA (Mihaylov et al., 2018): elementary science with four choices; the answer is a letter.

Hub: allenai/openbookqa, configuration main, splits train (4,957 rows) and validation (500); columns question_stem,
choices (text and label, lists of four), answerKey (A to D). The corrupted prompt is the same question with the right
choice and the one after it (cyclically) swapped.
"""

from __future__ import annotations

from ...common.errors import DataError
from .choices import choose
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
        return choose(question, choices["text"], keys.index(raw["answerKey"]), list(self.labels.values()))
