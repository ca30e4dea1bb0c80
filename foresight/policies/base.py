"""What a policy is and what it may know: it is asked for a mask at every decision and sees one `View`.

Ties are broken the same way every time, so that the same views give the same masks.
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, TypeVar

import numpy as np

from ..common.errors import CheckpointError, ConfigError, TrajectoryError
from ..masks.masks import Mask, WeightMask
from ..masks.selection import Limit, select
from ..model.components import ComponentTable
from ..trajectory.series import Series
from ..trajectory.skill_log import Forecast


@dataclass(frozen=True)
class Past:
    """A recorded run that policies learn from; runs of one `group` (a task and model) are no independent evidence.

    Attributes:
        damage: float32 [n_components, n_steps], signed, at the steps of `series`, where the run has measured it.
    """

    series: Series
    group: str
    damage: np.ndarray | None = None


class Found(Protocol):
    """What a policy has found out about its own forecast before it chose: whether to believe it, by what gain."""

    @property
    def opens(self) -> bool: ...
    @property
    def gain(self) -> float: ...
    @property
    def words(self) -> str: ...


@dataclass(frozen=True)
class View:
    """What a policy may know when it decides.

    Attributes:
        table, n_vectors: the components and the budget in vectors.
        step: optimizer steps done; total_steps: of the whole run.
        series: snapshots of this run; what lies after `step` is never used. None if the run does not probe.
        seed: of random masks and tie-breaks.
        horizon: steps after `step` that a forecast is for (at most to the end of the run).
        cutoff: last step that a forecaster may see; None for every snapshot so far.
        damage: float32 [n_components, n_steps], signed, at the steps of `series`, where the run measures it.
        head_share: share of the vectors that heads and KV groups get; None ranks kinds together (see `select`).
        cost_aware: share of the score that may be given up for cheaper steps; limits: what a mask may cost (likewise).
    """

    table: ComponentTable
    n_vectors: int
    step: int
    total_steps: int
    series: Series | None = None
    seed: int = 0
    horizon: int = 1
    cutoff: int | None = None
    damage: np.ndarray | None = None
    head_share: float | None = None
    cost_aware: float = 0.0
    limits: tuple[Limit, ...] = ()

    def select(self, scores: np.ndarray) -> Mask:
        """The components of highest score that the budget buys (see `foresight.masks.selection.select`)."""
        return select(scores, self.table, self.n_vectors, self.head_share, self.cost_aware, self.limits)

    def seen(self, until: int | None = None) -> Series:
        """The snapshots up to `step`, or `until` if that is earlier.

        Raises:
            ConfigError: the run has no snapshot yet, or none of this model's components.
        """
        if self.series is None:
            raise ConfigError(f"the policy needs scores at step {self.step}; probe the model before asking for a mask")
        require_same_components(self.series, self.table)
        return self.series.until(self.step if until is None else min(self.step, until))


P = TypeVar("P", bound="Policy")


class Policy(ABC):
    """Base of all policies. The parameters of `__init__` are what `make_policy` has to be given.

    Attributes:
        name: what the policy is called in settings.
        needs_scores: the run must probe, before the first decision too.
        remasks: later decisions can differ from the first.
        forecasts: sets `last_forecast`.
        ranks: it chooses by scores through `View.select`, so that a head share, cost awareness and limits apply.
        measures: the virtual moves that it chooses by instead of the run's scorer (see foresight.damage).
        own_steps: steps at which it wants to decide besides the run's cadence.
        last_forecast: the last `Forecast`, whether it was believed or not, for a `SkillLog`; None without one.
        verdict: what the gate (or a policy of its own accord) found before the last mask; None without one.
    """

    name: ClassVar[str]
    needs_scores: ClassVar[bool] = False
    forecasts: ClassVar[bool] = False
    ranks: ClassVar[bool] = False
    measures: tuple[str, ...] = ()
    remasks: bool = False
    own_steps: frozenset[int] = frozenset()
    last_forecast: Forecast | None = None
    verdict: Found | None = None

    @abstractmethod
    def mask(self, view: View) -> Mask | WeightMask:
        """The components to train from `view.step` on. Raises ConfigError for a view without what is needed."""

    def state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """(arrays, JSON) of what a resumed run could not work out again; empty for most policies."""
        return {}, {}

    def load_state(self, arrays: Mapping[str, np.ndarray], data: Mapping[str, Any]) -> None:
        """Inverse of `state`. Raises CheckpointError for the state of another policy."""
        if arrays or data:
            raise CheckpointError(f"policy {self.name!r} has no state; the checkpoint has {[*arrays, *data]}")


def build(cls: type[P], needs: Mapping[str, Any], missing: Callable[[str], str]) -> P:
    """A policy from those of `needs` that its `__init__` takes; None counts as absent.

    Args:
        missing: the error message for a parameter that has no default and was not given.

    Raises:
        ConfigError: something the policy needs is absent.
    """
    params = inspect.signature(cls).parameters
    given = {need: value for need, value in needs.items() if need in params and value is not None}
    for param, spec in params.items():
        if spec.default is spec.empty and param not in given:
            raise ConfigError(missing(param))
    return cls(**given)


def require_same_components(series: Series, table: ComponentTable) -> None:
    if not np.array_equal(series.name, table.name) or not np.array_equal(series.vectors, table.vectors):
        raise TrajectoryError(
            f"the series has {len(series)} components from {series.name[0]} to {series.name[-1]}, the model "
            f"{len(table)} from {table.name[0]} to {table.name[-1]}; use the same model and mlp_block"
        )
