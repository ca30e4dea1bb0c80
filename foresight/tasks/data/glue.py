"""Tasks of GLUE (Wang et al., 2018): whether a review is positive, whether a hypothesis follows from a premise.

Hub: nyu-mll/glue, splits train and validation. In both, the corrupted prompt is another row of the same length with the
other label.

- sst2 (Socher et al., 2013): 67,349 and 872 rows; columns sentence, label (0 negative, 1 positive).
- rte: 2,490 and 277 rows; columns sentence1 (premise), sentence2 (hypothesis), label (0 entailment, 1 not). Premises
  are long and their lengths vary, so some rows find no partner.
"""

from __future__ import annotations

from .data_task import DataTask
from .pairing import Raw, Row
from .source import Source


class Sst2(DataTask):
    name = "sst2"
    hub = Source("nyu-mll/glue", "sst2")
    columns = ("sentence", "label")
    labels = {"0": "negative", "1": "positive"}

    def row(self, raw: Raw) -> Row:
        return Row(f"Review: {self.text(raw, 'sentence')}\nSentiment:", self.word(raw["label"]))


class Rte(DataTask):
    name = "rte"
    hub = Source("nyu-mll/glue", "rte")
    columns = ("sentence1", "sentence2", "label")
    labels = {"0": "True", "1": "False"}

    def row(self, raw: Raw) -> Row:
        premise, hypothesis = self.text(raw, "sentence1"), self.text(raw, "sentence2")
        return Row(f"{premise}\nTrue or False: {hypothesis}\nAnswer:", self.word(raw["label"]))
