"""Policy `value`: the mask that outcomes of past runs speak for, among candidates of many kinds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..masks.masks import Mask
from ..masks.selection import head_share_of, select
from .base import Past, Policy, View
from .prior import in_order, learned_or_shipped
from .targets.mask_value import MaskValue
from .targets.outcomes import Outcome

SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Head shares of the stratified candidates."""
PERTURBED = 8
"""Random variants of each other candidate: log scores with standard normal noise, half of them weak (x 0.5)."""


@dataclass(frozen=True)
class Choice:
    """What the policy found.

    Attributes:
        opens: the regression is believed: its R^2 on tasks left out is above 0, beyond doubt.
        gain: predicted outcome of the static mask minus that of the chosen one (>= 0), in the outcome's unit.
        words: one sentence for the log.
    """

    opens: bool
    gain: float
    words: str


class Value(Policy):
    """The mask with the best predicted outcome, chosen once, by the value of a mask learned from past runs.

    Candidates: the static mask and the prior's, both in one list and with every head share of SHARES, and PERTURBED
    random variants of each. Where the regression's R^2 on tasks that it has not seen is not above 0 beyond doubt, it
    holds the static mask, and says so.

    Args:
        outcomes: of past runs (see foresight.policies.targets.outcomes).
        history: past runs that the prior learns from; without any, the shipped one is taken.

    Raises:
        ConfigError: too few runs to learn from.
    """

    name = "value"
    needs_scores = True

    def __init__(self, outcomes: Sequence[Outcome], history: Sequence[Past] = ()):
        self.value = MaskValue.learn(outcomes, learned_or_shipped(history).scores)

    def mask(self, view: View) -> Mask:
        seen, value = view.seen(), self.value
        before = seen.until(int(seen.steps[0]))
        masks = candidates(view, before.values[:, 0], value.prior(before))
        learned = f"{value.runs} runs of {value.groups} tasks, R^2 on tasks left out {value.r2:.2f}, p {value.p:.2g}"
        if not value.known:
            self.verdict = Choice(False, 0.0, f"holds static: past outcomes do not tell which mask is best ({learned})")
            return masks[0]
        predicted = value.predict(masks, before)
        best = int(predicted.argmin())
        gain = float(predicted[0] - predicted[best])
        share = head_share_of(masks[best], view.table)
        self.verdict = Choice(
            True,
            gain,
            f"takes candidate {best + 1} of {len(masks)} masks (head share {share:.2f}), predicted {gain:.3f} better "
            f"than static ({learned})",
        )
        return masks[best]


def candidates(view: View, static: np.ndarray, prior: np.ndarray) -> list[Mask]:
    """Different masks within the view's budget, the static one first.

    Args:
        static, prior: scores [n_components] before training, and those that a prior expects.
    """
    rng = np.random.default_rng([view.seed])
    found: dict[Mask, None] = {}
    for scores in (static, in_order(prior, view.seed)):
        log_scores = np.log(np.maximum(scores, np.finfo(np.float32).tiny))
        for share in (None, *SHARES):
            found.setdefault(select(scores, view.table, view.n_vectors, share))
            for i in range(PERTURBED):
                noise = rng.standard_normal(len(scores)) * (0.5 if i % 2 else 1.0)
                found.setdefault(select(log_scores + noise, view.table, view.n_vectors, share))
    return list(found)
