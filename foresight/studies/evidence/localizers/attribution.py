"""Localization by what the behaviour's logit difference owes to a head."""

from __future__ import annotations

import numpy as np

from ....common.errors import DataError
from ....scoring import make_scorer
from ....scoring.probes import ContrastProbe
from .base import Case, Localizer
from .registry import register


@register("attribution")
class AttributionPatching(Localizer):
    """The size of a head's score by a registered scorer, on contrast pairs of the training part.

    Args:
        scorer: name of the scorer; examples: pairs it sees, at most.

    Raises:
        DataError: the behaviour has no contrast pairs.
    """

    def __init__(self, scorer: str = "attribution", examples: int = 64):
        self.scorer, self.examples = scorer, examples

    def scores(self, case: Case) -> np.ndarray:
        pairs = case.behaviour.pairs
        if pairs is None:
            raise DataError(
                "the localizer 'attribution' needs contrast pairs, and the behaviour has none; give rows with the "
                "columns clean, corrupted, answer, wrong_answer, or use another localizer"
            )
        probe = ContrastProbe.from_dataset(pairs, case.tokenizer, 32, self.examples)
        found = make_scorer(self.scorer).score(case.model, case.table, probe).values
        return np.abs(found[case.table.kind == "head"])
