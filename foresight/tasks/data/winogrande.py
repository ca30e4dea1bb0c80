"""WinoGrande (Sakaguchi et al., 2020): which of two options fills the blank? The answer is a letter.

Hub: allenai/winogrande, configuration winogrande_xl, splits train (40,398 rows) and validation (1,267); columns
sentence (with one _), option1, option2, answer (1 or 2). The corrupted prompt has the two options swapped.
"""

from __future__ import annotations

from .choices import choose
from .data_task import DataTask
from .pairing import Raw, Row
from .source import Source


class Winogrande(DataTask):
    name = "winogrande"
    hub = Source("allenai/winogrande", "winogrande_xl")
    columns = ("sentence", "option1", "option2", "answer")
    labels = {"1": "A", "2": "B"}

    def row(self, raw: Raw) -> Row:
        self.word(raw["answer"])  # refuses unknown answers
        options = [self.text(raw, "option1"), self.text(raw, "option2")]
        question = f"{self.text(raw, 'sentence')}\nWhat is _?"
        return choose(question, options, int(raw["answer"]) - 1, list(self.labels.values()))
