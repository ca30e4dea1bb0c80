"""Localization as in inference-time intervention: how well a probe on a head tells right answers from wrong ones."""

from __future__ import annotations

import numpy as np

from ..probes import fit_probes, read_outputs
from .base import Case, Localizer
from .registry import register


@register("probes")
class ProbeAccuracy(Localizer):
    """Accuracy on the validation questions of a logistic probe fitted to the training questions."""

    def scores(self, case: Case) -> np.ndarray:
        train, held_out = (
            read_outputs(case.model, case.table, case.tokenizer, questions)
            for questions in (case.behaviour.train, case.behaviour.validation)
        )
        return fit_probes(train, held_out).accuracy
