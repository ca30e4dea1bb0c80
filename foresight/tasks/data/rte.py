"""RTE, from GLUE: does a hypothesis follow from a premise?

Hub: nyu-mll/glue, configuration rte, splits train (2,490 rows) and validation (277); columns sentence1 (premise),
sentence2 (hypothesis), label (0 entailment, 1 not). The corrupted prompt is another pair of the same length with the
other label. Premises are long and their lengths vary, so some rows find none.
"""

from __future__ import annotations

from .data_task import DataTask
from .pairing import Raw, Row
from .source import Source


class Rte(DataTask):
    name = "rte"
    hub = Source("nyu-mll/glue", "rte")
    columns = ("sentence1", "sentence2", "label")
    labels = {"0": "True", "1": "False"}

    def row(self, raw: Raw) -> Row:
        premise, hypothesis = self.text(raw, "sentence1"), self.text(raw, "sentence2")
        return Row(f"{premise}\nTrue or False: {hypothesis}\nAnswer:", self.word(raw["label"]))
