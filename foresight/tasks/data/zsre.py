"""zsRE, zero-shot relation extraction (Levy et al., 2017): complete a fact. This is KILT's edition.

Hub: facebook/kilt_tasks, configuration structured_zeroshot, splits train (147,909 rows) and validation (3,724);
columns input ("subject [SEP] relation") and output (a list of answers, of which the first is taken). The two splits
have different relations, hence zero-shot.

Answers are names of several tokens, and a contrast pair looks at their first token only. The corrupted prompt asks for
the same relation of another subject of the same length; pairs whose answers begin with the same token are left out.
"""

from __future__ import annotations

from ...common.errors import DataError
from .data_task import DataTask
from .kilt import first_answer
from .pairing import Raw, Row
from .source import Source


class ZsRE(DataTask):
    name = "zsre"
    hub = Source("facebook/kilt_tasks", "structured_zeroshot")
    columns = ("input", "output")

    def row(self, raw: Raw) -> Row | None:
        text, answer = self.text(raw, "input"), first_answer(raw)
        subject, separator, relation = (part.strip() for part in text.rpartition("[SEP]"))
        if not separator:
            raise DataError(f"input is {text!r}, expected 'subject [SEP] relation'")
        if not (subject and relation and answer):
            return None
        return Row(f"Subject: {subject}\nRelation: {relation}\nObject:", f" {answer}", group=relation)
