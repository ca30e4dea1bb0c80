"""Circuit stability: does the circuit of step s still explain the model of step t? (Own definitions.)

Two answers, each a matrix over all steps:

- *functional*: f_t(C_s) / f_t(C_t), the faithfulness of s's circuit on the model of t over that of t's own circuit
  there (`foresight.studies.circuits.faithfulness`); row s, column t. 1 means that the old circuit does as well as the
  new one, more that it does better, 0 or less that it explains nothing.
- *rank*: 1 - Spearman's rho of the scores of s and t; symmetric, 0 for equal orders. (A distance, so that its floor
  reads like every other.)

A column needs the weights of step t. They are there while training is at t, when the circuits of later steps are not
known yet: a run that keeps no weights fills s <= t alone, and one that keeps the weights of some steps fills the
columns of those. The rest is NaN. A column of ratios is also NaN where they are undefined: the model of t does not show
the behaviour, or its own circuit has a faithfulness of zero or less (a circuit too small to carry anything).
`Stability.missing` says why for every such column, and nothing is ever infinite.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.stats import rankdata
from torch import nn

from ...common.errors import ConfigError
from .faithfulness import NoBehaviourError, check_behaviour, circuit_drops, faithfulness
from .floors import UNDEFINED, Measured, MeasuredMatrix, higher, interval, measure, resampled_means, split_half_floor

if TYPE_CHECKING:
    from ...model.components import ComponentTable
    from ...scoring.probes import Probe


@dataclass(frozen=True)
class StabilityColumn:
    """The circuits of several steps on the model of one.

    Attributes:
        step: of the model.
        circuit_steps: of the circuits, in the order of the other two.
        faithfulness: of each circuit there; NaN if the model does not show the behaviour.
        ratio: the same over the faithfulness of the model's own circuit; NaN if that is undefined, zero or less.
        reason: why `ratio` is NaN, or empty.
    """

    step: int
    circuit_steps: tuple[int, ...]
    faithfulness: tuple[Measured, ...]
    ratio: tuple[Measured, ...]
    reason: str = ""


def stability_column(
    model: nn.Module,
    table: ComponentTable,
    probe: Probe,
    circuits: Mapping[int, Sequence[int] | np.ndarray],
    step: int,
    ablation: str = "corrupted",
    metric: str = "logit_difference",
    seed: int = 0,
) -> StabilityColumn:
    """Ablate around every circuit on this model, in one pass over the probe.

    Args:
        circuits: step -> table positions of its circuit; empty circuits are allowed.
        step: of this model; `circuits` has it.

    Raises:
        ConfigError: no circuit of `step`, a position outside the table, an unknown name.
    """
    if step not in circuits:
        raise ConfigError(f"no circuit of step {step}, the model's own; got those of steps {sorted(circuits)}")
    drops = circuit_drops(model, table, probe, list(circuits.values()), ablation, metric)
    return column_of(drops, tuple(circuits), step, seed)


def column_of(drops: np.ndarray, circuit_steps: Sequence[int], step: int, seed: int = 0) -> StabilityColumn:
    """The column from `circuit_drops` [n_examples, n_circuits + 1]; one of the circuits is that of `step`."""
    steps = tuple(circuit_steps)
    own, unknown = steps.index(step), (UNDEFINED,) * len(steps)
    try:
        check_behaviour(drops)
    except NoBehaviourError as error:
        return StabilityColumn(step, steps, unknown, unknown, str(error))

    def ratio(means: np.ndarray) -> np.ndarray:
        f = faithfulness(means)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(f[:, [own]] > 0, f / f[:, [own]], np.nan)

    faithful = tuple(measure(faithfulness, drops, seed))
    if not faithful[own].value > 0:
        reason = (
            f"the circuit of step {step} has a faithfulness of {faithful[own].value:.3g} on its own model: it explains "
            "nothing that others could be compared to; take a larger circuit"
        )
        return StabilityColumn(step, steps, faithful, unknown, reason)
    return StabilityColumn(step, steps, faithful, tuple(measure(ratio, drops, seed)))


@dataclass(frozen=True, eq=False)
class Stability:
    """The matrices of one task. Row s: the circuit of steps[s]; column t: the model of steps[t].

    Attributes:
        steps: int64 [steps], ascending.
        faithfulness, ratio: f_t(C_s), and the same over f_t(C_t).
        missing: step of each column without any ratio -> why.
    """

    steps: np.ndarray
    faithfulness: MeasuredMatrix
    ratio: MeasuredMatrix
    missing: dict[int, str]

    @property
    def n_undefined(self) -> int:
        """Pairs of steps without a ratio."""
        return int(np.isnan(self.ratio.value).sum())


def stability_matrix(steps: Sequence[int], columns: Sequence[StabilityColumn]) -> Stability:
    """Put columns together; steps without a column, and circuits that a column does not have, are NaN.

    Raises:
        ConfigError: a column of a step that is not in `steps`, or two of one step.
    """
    order = sorted(set(steps))
    by_step = {column.step: column for column in columns}
    strange = {s for column in columns for s in (column.step, *column.circuit_steps)} - set(order)
    if strange or len(by_step) < len(columns):
        raise ConfigError(
            f"columns of steps {[c.step for c in columns]} with circuits of steps {sorted(strange)} that are not among "
            f"{order}; expected at most one column a step, of circuits of these steps"
        )

    def matrix(part: Callable[[StabilityColumn], tuple[Measured, ...]]) -> MeasuredMatrix:
        known = {
            (s, column.step): entry
            for column in columns
            for s, entry in zip(column.circuit_steps, part(column), strict=True)
        }
        return MeasuredMatrix.of([[known.get((s, t), UNDEFINED) for t in order] for s in order])

    missing = {t: "no weights of this step" for t in order if t not in by_step}
    missing |= {t: column.reason for t, column in by_step.items() if column.reason}
    return Stability(np.array(order), matrix(lambda c: c.faithfulness), matrix(lambda c: c.ratio), missing)


def rank_distances(samples: Sequence[np.ndarray], seed: int = 0) -> MeasuredMatrix:
    """1 - Spearman's rho of the mean scores of every pair of steps; NaN where scores are constant.

    Args:
        samples: of each step, [n_examples, n_components], the same examples in all.

    Returns:
        Symmetric matrices; the floor is the higher split-half floor of the two steps.
    """
    n = len(samples)
    values = [_standard_ranks(np.asarray(one, np.float64).mean(0)) for one in samples]
    drawn = [_standard_ranks(resampled_means(one, seed=seed)) for one in samples]
    floors = [split_half_floor(_rank_distance, one, seed=seed) for one in samples]
    cells = np.full((5, n, n), np.nan)
    for s in range(n):
        for t in range(s, n):
            floor = higher(floors[s], floors[t])
            low, high = interval(_apart(drawn[s], drawn[t]), len(samples[s]))
            cells[:, s, t] = cells[:, t, s] = _apart(values[s], values[t]), low, high, floor.mean, floor.high
    return MeasuredMatrix(*cells)


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
