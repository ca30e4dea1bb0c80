"""FEVER (Thorne et al., 2018): is a claim about the world true? This is KILT's edition, which has no third label.

Hub: facebook/kilt_tasks, configuration fever, splits train (104,966 rows) and validation (10,444); columns input (the
claim) and output (a list whose first answer is SUPPORTS or REFUTES). The prompt is the claim without evidence. The
corrupted prompt is another claim of the same length with the other label.
"""

from __future__ import annotations

from .data_task import DataTask
from .kilt import first_answer
from .pairing import Raw, Row
from .source import Source


class Fever(DataTask):
    name = "fever"
    hub = Source("facebook/kilt_tasks", "fever")
    columns = ("input", "output")
    labels = {"SUPPORTS": "True", "REFUTES": "False"}

    def row(self, raw: Raw) -> Row | None:
        answer = first_answer(raw)
        return Row(f"Claim: {self.text(raw, 'input')}\nTrue or False:", self.word(answer)) if answer else None
