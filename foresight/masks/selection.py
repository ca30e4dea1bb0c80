"""Which components a mask takes: by score, within a budget, and within limits on what a train step may cost.

Components are taken in order of score until nothing more fits. A step's time and memory follow the lowest trained
component, as its backward pass ends there: a mask becomes cheaper when the lowest parts of the model are left out of
the choice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..common.errors import BudgetError, ConfigError, NonFiniteError
from ..model.components import ComponentTable
from .masks import Mask

if TYPE_CHECKING:
    from ..trajectory.series import Series


@dataclass(frozen=True)
class Limit:
    """The most that a mask may cost in one respect.

    Attributes:
        setting: what sets it, for messages; most: its value.
        cost: of components, int64 [k], in the setting's unit.
    """

    setting: str
    most: float
    cost: Callable[[np.ndarray], float]

    def allows(self, components: np.ndarray) -> bool:
        return self.cost(components) <= self.most


def circuit_size(table: ComponentTable, n_vectors: int) -> int:
    """Components of typical size that so many vectors are worth: the k of a circuit."""
    return max(1, min(len(table), round(n_vectors / float(table.vectors.mean()))))


def select(
    scores: np.ndarray,
    table: ComponentTable | Series,
    n_vectors: int,
    head_share: float | None = None,
    cost_aware: float = 0.0,
    limits: Sequence[Limit] = (),
) -> Mask:
    """Take whole components, of those that masks may take, by descending score while they fit into `n_vectors`.

    A component that does not fit is skipped and smaller ones below it are still tried, so that less than the
    smallest unselected component is left over. Equal scores are taken in table order: the result is deterministic.

    With a `head_share`, heads and KV groups are first taken into that share of the vectors (to the nearest one), MLP
    blocks into the others; then, of either kind by score, whatever still fits into what both have left.

    `limits` and `cost_aware` choose among the masks that the same rule takes from each depth upwards. Limits leave
    those that keep all of them, and of these the one with most score is taken. `cost_aware` then goes to the highest
    depth whose mask keeps at least 1 - `cost_aware` of that score. The definition is our own. The score of a mask is
    the sum of the positive scores of its components, and counts no further than that of the mask of all depths (skipped
    components can make it larger); masks of equal score go to the lower depth; of a score of 0 or infinity nothing is
    traded.

    Args:
        scores: float [n_components]; larger is more important (take absolute values of signed scores first).
        head_share: in [0, 1]; None ranks all kinds in one list.
        cost_aware: in [0, 1), the share of the best mask's score that may be given up.
        limits: what the mask may cost.

    Raises:
        NonFiniteError: a score is NaN (infinities order as usual).
        BudgetError: nothing fits, or no mask keeps the limits; the error names what the cheapest one costs.
    """
    scores = np.asarray(scores, np.float64)
    if scores.shape != (len(table),):
        raise ConfigError(f"scores have shape {scores.shape}; expected one per component, ({len(table)},)")
    if np.isnan(scores).any():
        bad = table.name[int(np.flatnonzero(np.isnan(scores))[0])]
        raise NonFiniteError(f"{int(np.isnan(scores).sum())} scores are NaN (first: {bad}); no mask can be chosen")
    order = np.argsort(-scores, kind="stable")
    if isinstance(table, ComponentTable) and table.restricted:
        order = order[table.allowed[order]]
    best = _ranked(order, table, n_vectors, head_share)
    if not len(best):
        raise BudgetError(_nothing_fits(n_vectors))
    if not cost_aware and all(limit.allows(best) for limit in limits):
        return Mask.of(best)
    masks = []  # from each depth upwards, lowest first, without repeats
    depth, found = depths(table), best
    while len(found):
        masks.append(found)
        order = order[depth[order] > depth[found].min()]
        found = _ranked(order, table, n_vectors, head_share)
    fitting = [mask for mask in masks if all(limit.allows(mask) for limit in limits)]
    if not fitting:
        raise BudgetError(_none_fits(masks, limits))
    gains = np.maximum(scores, 0)
    worth = [min(gains[mask].sum(), gains[best].sum()) for mask in fitting]
    most = max(worth)
    if cost_aware and 0 < most < np.inf:
        return Mask.of(fitting[int(np.flatnonzero(worth >= (1 - cost_aware) * most)[-1])])
    return Mask.of(fitting[worth.index(most)])


def depths(table: ComponentTable | Series) -> np.ndarray:
    """Depth of every component, two per layer, the lowest first: int [n_components]."""
    return 2 * table.layer + (table.kind == "mlp")


def head_share_of(mask: Mask, table: ComponentTable | Series) -> float:
    """Share of a mask's vectors that heads and KV groups have, in [0, 1]."""
    members = list(mask.components)
    vectors = table.vectors[members]
    return float(vectors[table.kind[members] != "mlp"].sum() / vectors.sum())


def rotation(table: ComponentTable, n_vectors: int, seed: int) -> list[Mask]:
    """Masks that take turns: a seeded random order of all components, cut into groups that fit into `n_vectors`.

    Every candidate that fits at all is in exactly one group; the last groups may be smaller.

    Raises:
        BudgetError: nothing fits.
    """
    turns: list[Mask] = []
    waiting = np.random.default_rng([seed]).permutation(len(table))
    waiting = waiting[table.allowed[waiting]]
    while len(turn := _fill(waiting, table.vectors, n_vectors)):
        turns.append(Mask.of(turn))
        waiting = waiting[~np.isin(waiting, turn)]
    if not turns:
        raise BudgetError(_nothing_fits(n_vectors))
    return turns


def _ranked(order: np.ndarray, table: ComponentTable | Series, n_vectors: int, head_share: float | None) -> np.ndarray:
    """Those of the components `order` that fit, taken in that order, with a head share as in `select`."""
    chosen = order[:0]
    if head_share is not None:
        heads = table.kind[order] != "mlp"
        for_heads = round(head_share * n_vectors)
        parts = ((order[heads], for_heads), (order[~heads], n_vectors - for_heads))
        chosen = np.concatenate([_fill(members, table.vectors, room) for members, room in parts])
        order = order[~np.isin(order, chosen)]
    return np.concatenate([chosen, _fill(order, table.vectors, n_vectors - int(table.vectors[chosen].sum()))])


def _fill(order: np.ndarray, vectors: np.ndarray, room: int) -> np.ndarray:
    """Those of the components `order` that fit into `room` vectors, taken in that order."""
    taken = [order[:0]]
    while len(order):
        ends = np.cumsum(vectors[order])
        n = int(np.searchsorted(ends, room, side="right"))
        taken.append(order[:n])
        room -= int(ends[n - 1]) if n else 0
        order = order[n:]
        order = order[vectors[order] <= room]  # the first one is too large, and nothing as large will fit again
    return np.concatenate(taken)


def _nothing_fits(n_vectors: int) -> str:
    return f"no component fits into {n_vectors} vectors; raise the budget or lower mlp_block"


def _none_fits(masks: Sequence[np.ndarray], limits: Sequence[Limit]) -> str:
    words = [
        f"{limit.setting} is {limit.most:.4g}, and the cheapest mask takes {min(map(limit.cost, masks)):.4g}"
        for limit in limits
    ]
    at_all = "" if len(limits) == 1 else ", and no mask keeps all of them"
    return f"{'; '.join(words)}{at_all}: raise {' or '.join(limit.setting for limit in limits)}, or lower the budget"
