"""SST-2 (Socher et al., 2013), from GLUE: is a sentence of a film review positive or negative?

Hub: nyu-mll/glue, configuration sst2, splits train (67,349 rows) and validation (872); columns sentence, label (0
negative, 1 positive). The corrupted prompt is another review of the same length with the other label.
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
