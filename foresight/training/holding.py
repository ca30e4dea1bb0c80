"""Whether a new mask is worth more than the one in force, beyond noise. If it is not, the old one is held."""

from __future__ import annotations

import numpy as np

from ..masks.masks import Mask, WeightMask
from ..policies.policy import View
from .run import Run


def judged(run: Run, mask: Mask | WeightMask, view: View) -> tuple[Mask | WeightMask, str, dict[str, float]]:
    """The mask to train from now on, why in words, and numbers to be logged.

    A forecast that the policy believes has proved its worth already, a mask of another size is needed whatever it is
    worth, and where nothing is known of single examples nothing can be told; then the new mask stands.

    Args:
        mask: what the policy has chosen; view: what it has seen.
    """
    policy, watcher = run.policy, run.watcher
    if watcher is None or watcher.pool is None or not (policy.needs_scores and policy.ranks):
        return mask, policy.words, {}
    trajectory, name = watcher.trajectory, watcher.scorer.name
    pool = watcher.pool.shifted(trajectory.corrected(name)[:, -1] - trajectory.values(name)[:, -1])

    def choose(magnitudes: np.ndarray) -> np.ndarray:
        return np.array(view.select(magnitudes).components)

    agreement = pool.agreement(choose)
    notes, current = {"agreement": agreement}, run.bank.mask
    map_is = f"this map is {agreement:.0%} repeatable"
    if mask == current or policy.believes or not _comparable(run, view):
        return mask, f"{policy.words}; {map_is}" if policy.words else "", notes
    assert isinstance(current, Mask)
    gain, bound = pool.gain(choose, current.components)
    notes |= {"gain": gain, "gain_bound": bound}
    worth = f"a new mask has {gain:+.1%} of the score, at least {bound:+.1%}"
    verdict = "re-masks" if bound > 0 else "holds the mask"
    words = f"{verdict}: {worth}; {map_is}"
    return mask if bound > 0 else current, f"{policy.words}; {words}" if policy.words else words, notes


def _comparable(run: Run, view: View) -> bool:
    """Whether the mask in force is one that the policy could keep: of the same size, and chosen by one score."""
    watched = view.step == run.calendar.first_decision and run.policy.watch != "hold"
    if view.step == 0 or watched or view.step in run.calendar.resizes:
        return False
    assert view.series is not None  # the policy needs scores
    return len(run.target.parts(view.series, view.damage)) == 1
