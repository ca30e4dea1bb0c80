"""Circuit stability: does the circuit of step s still explain the model of step t? (Own definitions.)

There are two answers for every s and t:

- *functional*: f_t(C_s) / f_t(C_t), the faithfulness of s's circuit on the model of t divided by that of t's own
  circuit there (see `faithfulness`). 1 means that the old circuit does as well as the new one; more, that it does
  better; 0 or less, that it explains nothing.
- *rank*: 1 - Spearman's rho of the scores of s and t; symmetric, 0 for equal orders. (A distance, so that its floor
  reads like every other floor.)

The functional answer needs the weights of step t. They exist while training is at t, when the circuits of later steps
are not known yet: a run that keeps no weights can answer for s <= t only; one that keeps the weights of some steps, for
all s at those t. The ratio is NaN where it is undefined: the model of t does not show the behaviour, or its own circuit
has a faithfulness of zero or less (a circuit too small to carry anything). It is never infinite.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

from .faithfulness import NoBehaviourError, check_behaviour, faithfulness
from .floors import UNDEFINED, Measured, higher, interval, measure, resampled_means, split_half_floor


@dataclass(frozen=True)
class StabilityColumn:
    """The circuits of several steps on the model of one step.

    Attributes:
        faithfulness: of each circuit there; NaN if the model does not show the behaviour.
        ratio: the same divided by the faithfulness of the model's own circuit; NaN if that is undefined, zero or less.
        reason: why `ratio` is NaN, or empty.
    """

    faithfulness: tuple[Measured, ...]
    ratio: tuple[Measured, ...]
    reason: str = ""


def stability_column(drops: np.ndarray, circuit_steps: Sequence[int], step: int, seed: int = 0) -> StabilityColumn:
    """Measure circuits on the model of `step`.

    Args:
        drops: `circuit_drops` of the circuits on this model, [n_examples, n_circuits + 1].
        circuit_steps: the steps of the circuits; `step` is among them.
    """
    own, unknown = list(circuit_steps).index(step), (UNDEFINED,) * len(circuit_steps)
    try:
        check_behaviour(drops)
    except NoBehaviourError as error:
        return StabilityColumn(unknown, unknown, str(error))

    def ratio(means: np.ndarray) -> np.ndarray:
        f = faithfulness(means)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(f[:, [own]] > 0, f / f[:, [own]], np.nan)

    faithful = tuple(measure(faithfulness, drops, seed))
    if not faithful[own].value > 0:
        reason = (
            f"the circuit of step {step} has a faithfulness of {faithful[own].value:.3g} on its own model: it explains "
            "nothing that other circuits could be compared with; take a larger circuit"
        )
        return StabilityColumn(faithful, unknown, reason)
    return StabilityColumn(faithful, tuple(measure(ratio, drops, seed)))


def rank_distances(samples: Sequence[np.ndarray], seed: int = 0) -> list[list[Measured]]:
    """1 - Spearman's rho of the mean scores of every pair of steps; NaN where scores are constant.

    Args:
        samples: of each step, [n_examples, n_components], the same examples in all.

    Returns:
        A symmetric matrix as rows; the floor is the higher split-half floor of the two steps.
    """
    n = len(samples)
    values = [_standard_ranks(np.asarray(one, np.float64).mean(0)) for one in samples]
    drawn = [_standard_ranks(resampled_means(one, seed=seed)) for one in samples]
    floors = [split_half_floor(_rank_distance, one, seed=seed) for one in samples]
    found = [[UNDEFINED] * n for _ in range(n)]
    for s in range(n):
        for t in range(s, n):
            floor = higher(floors[s], floors[t])
            low, high = interval(_apart(drawn[s], drawn[t]), len(samples[s]))
            numbers = (_apart(values[s], values[t]), low, high, floor.mean, floor.high)
            found[s][t] = found[t][s] = Measured(*map(float, numbers))
    return found


def _standard_ranks(scores: np.ndarray) -> np.ndarray:
    """Ranks along the last axis, centred and of length 1, so that their inner product is Spearman's rho."""
    ranks = rankdata(scores, axis=-1)
    ranks -= ranks.mean(-1, keepdims=True)
    length = np.linalg.norm(ranks, axis=-1, keepdims=True)
    return ranks / np.where(length > 0, length, np.nan)


def _rank_distance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return _apart(_standard_ranks(a), _standard_ranks(b))


def _apart(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return 1 - (a * b).sum(-1)
