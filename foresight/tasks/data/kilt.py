"""Tasks of KILT (Petroni et al., 2021): whether a claim is true, and what completes a fact.

Hub: facebook/kilt_tasks, splits train and validation; columns input and output, a list of {"answer": text, ...}.

- fever (Thorne et al., 2018): 104,966 and 10,444 rows; the input is a claim, the first answer SUPPORTS or REFUTES
  (KILT's edition has no third label). The prompt is the claim without evidence; the corrupted prompt is another claim
  of the same length with the other label.
- zsre, zero-shot relation extraction (Levy et al., 2017): 147,909 and 3,724 rows; the input is "subject [SEP]
  relation", of which the first answer counts. The two splits have different relations, hence zero-shot. Answers are
  names of several tokens, and a contrast pair looks at their first token only: the corrupted prompt asks for the same
  relation of another subject of the same length, and pairs whose answers begin with the same token are left out.
"""

from __future__ import annotations

from ...common.errors import DataError
from .data_task import DataTask
from .pairing import Raw, Row
from .source import Source


class Fever(DataTask):
    name = "fever"
    hub = Source("facebook/kilt_tasks", "fever")
    columns = ("input", "output")
    labels = {"SUPPORTS": "True", "REFUTES": "False"}

    def row(self, raw: Raw) -> Row | None:
        answer = _first_answer(raw)
        return Row(f"Claim: {self.text(raw, 'input')}\nTrue or False:", self.word(answer)) if answer else None


class ZsRE(DataTask):
    name = "zsre"
    hub = Source("facebook/kilt_tasks", "structured_zeroshot")
    columns = ("input", "output")

    def row(self, raw: Raw) -> Row | None:
        text, answer = self.text(raw, "input"), _first_answer(raw)
        subject, separator, relation = (part.strip() for part in text.rpartition("[SEP]"))
        if not separator:
            raise DataError(f"input is {text!r}, expected 'subject [SEP] relation'")
        if not (subject and relation and answer):
            return None
        return Row(f"Subject: {subject}\nRelation: {relation}\nObject:", f" {answer}", group=relation)


def _first_answer(raw: Raw) -> str | None:
    """Return the first answer in the column output, a list of {"answer": text, ...}; None in test splits without one.

    Raises:
        DataError: the column has another format.
    """
    output = raw["output"]
    if not isinstance(output, list) or not all(isinstance(item, dict) for item in output):
        raise DataError(f"output is {output!r}, expected a list of {{'answer': ...}}")
    answers = (item.get("answer") for item in output)
    return next((answer.strip() for answer in answers if answer and answer.strip()), None)
