"""Budgets, masks and mask schedules.

A mask is a set of whole components, or of single weights. A budget is a share of ALL parameters of the model, and
becomes a number of vectors; components are taken in order of score until nothing more fits.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .components import ComponentTable
from .errors import BudgetError, ConfigError, NonFiniteError, did_you_mean
from .files import write_json
from .numbering import Numbering

if TYPE_CHECKING:
    from torch import Tensor

    from .series import Series


@dataclass(frozen=True)
class Mask:
    """The components that are trained now, as sorted positions in a `ComponentTable`."""

    components: tuple[int, ...]

    @classmethod
    def of(cls, components: Iterable[int]) -> Mask:
        return cls(tuple(sorted({int(c) for c in components})))

    @property
    def hash(self) -> str:
        """Hex digest (12 characters) of the set."""
        return hashlib.sha256(repr(self.components).encode()).hexdigest()[:12]

    def __len__(self) -> int:
        return len(self.components)

    def names(self, table: ComponentTable) -> list[str]:
        return [table.components[i].name for i in self.components]

    @classmethod
    def from_names(cls, names: Iterable[str], table: ComponentTable) -> Mask:
        """Raises ConfigError for a name that the model does not have."""
        names = list(names)
        for name in names:
            if not isinstance(name, str) or name not in table.id_of:
                raise ConfigError(
                    f"component {name!r} does not exist in this model{did_you_mean(str(name), table.id_of)}; "
                    "`foresight components MODEL` lists them (mlp_block must be that of the saved schedule)"
                )
        return cls.of(table.id_of[name] for name in names)


@dataclass(frozen=True, eq=False)
class WeightMask:
    """The single weights that are trained now: their ids in a `WeightTable`, int64 [n], sorted and unique.

    Under the name that a `Mask` has for its members, so that a bank can be given either.
    """

    components: np.ndarray

    @cached_property
    def hash(self) -> str:
        """Hex digest (12 characters) of the set."""
        return hashlib.sha256(np.ascontiguousarray(self.components).data).hexdigest()[:12]

    def __len__(self) -> int:
        return len(self.components)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, WeightMask) and np.array_equal(self.components, other.components)


def everything(table: ComponentTable) -> Mask:
    """The mask of all components."""
    return Mask(tuple(range(len(table))))


def every_weight(table: Numbering) -> WeightMask:
    """The mask of all single weights."""
    return WeightMask(np.arange(table.n_vectors))


def churn(old: Mask | WeightMask, new: Mask | WeightMask) -> float:
    """Share of the new mask's components (weights) that were not in the old one, in [0, 1]."""
    return len(np.setdiff1d(new.components, old.components, assume_unique=True)) / max(1, len(new))


def budget_vectors(table: Numbering, budget: float) -> int:
    """Vectors (or weights) that a budget buys: floor(budget x all parameters of the model / length of a vector).

    Raises:
        BudgetError: budget outside (0, 1], or too small for the smallest component.
    """
    if not 0 < budget <= 1:
        raise BudgetError(f"budget is {budget}; expected a share of all model parameters in (0, 1], for example 0.05")
    n = math.floor(budget * table.model_parameters / table.d_model + 1e-9)  # .29 x 100 is 28.999... in floats
    smallest = table.smallest
    if n < smallest:
        need = smallest * table.d_model / table.model_parameters
        raise BudgetError(
            f"budget {budget} buys {n} {table.unit} of length {table.d_model}, but the smallest component has "
            f"{smallest}; raise the budget to at least {need:.4g} or lower mlp_block"
        )
    return min(n, table.n_vectors)


def circuit_size(table: ComponentTable, n_vectors: int) -> int:
    """Components of typical size that so many vectors are worth: the k of a circuit."""
    return max(1, min(len(table), round(n_vectors / float(table.vectors.mean()))))


def select(
    scores: np.ndarray,
    table: ComponentTable | Series,
    n_vectors: int,
    head_share: float | None = None,
    cost_aware: float = 0.0,
) -> Mask:
    """Take whole components by descending score while they fit into `n_vectors`.

    A component that does not fit is skipped and smaller ones below it are still tried, so that less than the
    smallest unselected component is left over. Equal scores are taken in table order: the result is deterministic.

    With a `head_share`, heads and KV groups are first taken into that share of the vectors (to the nearest one), MLP
    blocks into the others; then, of either kind by score, whatever still fits into what both have left. So the whole
    budget is used: a kind that cannot fill its share, or has a rest smaller than a component, gives it to the other.

    With `cost_aware`, the lowest parts of the model are left out of the choice as long as the mask keeps at least
    1 - `cost_aware` of the score: a step's time and memory follow the lowest trained component, as its backward pass
    ends there. The definition is our own: components lie in depths, two a layer (attention, then MLP); the mask is that
    of the highest depth from which upwards the same rule finds enough. The score of a mask is the sum of the positive
    scores of its components; where that is 0 or infinite for the best mask, nothing is traded.

    Args:
        scores: float [n_components]; larger is more important (take absolute values of signed scores first).
        head_share: in [0, 1]; None ranks all kinds in one list.
        cost_aware: in [0, 1), the share of the best mask's score that may be given up.

    Raises:
        NonFiniteError: a score is NaN (infinities order as usual).
        BudgetError: nothing fits.
    """
    scores = np.asarray(scores, np.float64)
    if scores.shape != (len(table),):
        raise ConfigError(f"scores have shape {scores.shape}; expected one per component, ({len(table)},)")
    if np.isnan(scores).any():
        bad = table.name[int(np.flatnonzero(np.isnan(scores))[0])]
        raise NonFiniteError(f"{int(np.isnan(scores).sum())} scores are NaN (first: {bad}); no mask can be chosen")
    order = np.argsort(-scores, kind="stable")

    def taken(candidates: np.ndarray) -> list[int]:
        return _ranked(candidates, table, n_vectors, head_share)

    chosen = taken(order)
    if not chosen:
        raise BudgetError(f"no component fits into {n_vectors} vectors; raise the budget or lower mlp_block")
    return Mask.of(_raised(chosen, order, scores, table, taken, cost_aware) if cost_aware else chosen)


def _ranked(order: np.ndarray, table: ComponentTable | Series, n_vectors: int, head_share: float | None) -> list[int]:
    """Those of the components `order` that fit, taken in that order, with a head share as `select` has it."""
    chosen: list[int] = []
    left = n_vectors
    if head_share is not None:
        heads = table.kind[order] != "mlp"
        for_heads = round(head_share * n_vectors)
        for members, room in ((order[heads], for_heads), (order[~heads], n_vectors - for_heads)):
            taken = _fill(members, table.vectors, room)
            chosen += taken
            left -= int(table.vectors[taken].sum())
        order = order[~np.isin(order, chosen)]
    return chosen + _fill(order, table.vectors, left)


def _raised(
    best: list[int],
    order: np.ndarray,
    scores: np.ndarray,
    table: ComponentTable | Series,
    taken: Callable[[np.ndarray], list[int]],
    cost_aware: float,
) -> list[int]:
    """What is `taken` from the highest depth upwards that keeps enough of the score of `best`, found by bisection."""
    gains = np.maximum(scores, 0)
    enough = (1 - cost_aware) * gains[best].sum()
    if not 0 < enough < np.inf:
        return best
    depth = 2 * table.layer + (table.kind == "mlp")
    low, high = int(depth[best].min()), int(depth.max()) + 1
    while high - low > 1:
        middle = (low + high) // 2
        found = taken(order[depth[order] >= middle])
        if gains[found].sum() >= enough:
            low, best = middle, found
        else:
            high = middle
    return best


def head_share_of(mask: Mask, table: ComponentTable | Series) -> float:
    """Share of a mask's vectors that heads and KV groups have, in [0, 1]."""
    members = list(mask.components)
    vectors = table.vectors[members]
    return float(vectors[table.kind[members] != "mlp"].sum() / vectors.sum())


def _fill(order: np.ndarray, vectors: np.ndarray, room: int) -> list[int]:
    """Those of the components `order` that fit into `room` vectors, taken in that order."""
    taken = []
    for i in order.tolist():
        if vectors[i] <= room:
            taken.append(i)
            room -= int(vectors[i])
    return taken


def rotation(table: ComponentTable, n_vectors: int, seed: int) -> list[Mask]:
    """Masks that take turns: a seeded random order of all components, cut into groups that fit into `n_vectors`.

    Every component that fits at all is in exactly one group; the last groups may be smaller.
    """
    turns: list[Mask] = []
    waiting = np.random.default_rng([seed]).permutation(len(table)).tolist()
    while waiting:
        order = np.full(len(table), -np.inf)
        order[waiting] = -np.arange(len(waiting))
        turn = [i for i in select(order, table, n_vectors).components if i in set(waiting)]
        if not turn:
            break
        turns.append(Mask.of(turn))
        waiting = [i for i in waiting if i not in set(turn)]
    return turns


@dataclass
class MaskSchedule:
    """Masks over optimizer steps: entry (s, mask) holds from after step s until the next entry.

    Serialised as JSON with component names, so that a schedule can be read, edited and replayed.
    """

    entries: list[tuple[int, Mask]] = field(default_factory=list)

    def append(self, step: int, mask: Mask) -> None:
        if self.entries and step <= self.entries[-1][0]:
            raise ConfigError(f"mask schedule: step {step} does not follow step {self.entries[-1][0]}")
        if not len(mask):
            raise ConfigError(f"mask schedule: the mask of step {step} is empty; name at least one component")
        self.entries.append((step, mask))

    def at(self, step: int) -> Mask:
        """The mask in force after `step` optimizer steps."""
        past = [mask for s, mask in self.entries if s <= step]
        if not past:
            raise ConfigError(f"mask schedule has no entry at or before step {step}; its first step must be 0")
        return past[-1]

    def newest(self, ids: Tensor) -> Mask:
        """The last mask; `ids` are those of a bank that has it in force."""
        return self.entries[-1][1]

    def write(self, path: Path, table: ComponentTable, mask: Mask) -> None:
        """Write the schedule as JSON; `mask` is the one in force."""
        write_json(path, self.to_json(table))

    def to_json(self, table: ComponentTable) -> dict:
        return {
            "version": 1,
            "table": table.hash,
            "entries": [{"step": s, "components": m.names(table)} for s, m in self.entries],
        }

    @classmethod
    def from_json(cls, data: dict, table: ComponentTable) -> MaskSchedule:
        schedule = cls()
        try:
            version, made_for = data["version"], data["table"]
            entries = [(int(e["step"]), list(e["components"])) for e in data["entries"]]
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigError(f"not a mask schedule ({error!r}); expected version, table and entries") from error
        if version != 1 or made_for != table.hash:
            raise ConfigError(
                f"mask schedule has version {version} and component table {made_for}; expected version 1 and "
                f"{table.hash}: the same names can be other weights, so use the model and mlp_block it was made with"
            )
        for step, names in entries:
            schedule.append(step, Mask.from_names(names, table))
        return schedule

    @classmethod
    def read(cls, path: str | Path, table: ComponentTable) -> MaskSchedule:
        return cls.from_json(schedule_json(path), table)


def touched(schedule: MaskSchedule, table: ComponentTable) -> int:
    """Vectors of all components that a schedule names at any step: what a static mask of as many has to have."""
    return int(table.vectors[sorted({i for _, mask in schedule.entries for i in mask.components})].sum())


def schedule_json(path: str | Path) -> Any:
    """The JSON of a mask schedule's file. Raises ConfigError if it cannot be read."""
    try:
        return json.loads(Path(path).read_text())
    except (OSError, ValueError) as error:
        raise ConfigError(f"mask schedule {path}: {error}") from error
