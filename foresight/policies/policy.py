"""What a policy is and what it may know: it is asked for a mask at every decision and sees one `View`.

Ties are broken the same way every time, so that the same views give the same masks.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar, Literal

import numpy as np
from torch import nn

from ..common.errors import CheckpointError, ConfigError, TrajectoryError
from ..common.plugins import part
from ..forecasters.forecaster import Forecaster
from ..masks.masks import Mask, WeightMask
from ..masks.selection import Limit, select
from ..model.components import ComponentTable
from ..model.numbering import Numbering
from ..trajectory.series import Forecast, Series
from .targets import Target


@dataclass(frozen=True)
class Past:
    """A recorded run; runs of one `group` (a task and model) are not independent evidence.

    Attributes:
        damage: float32 [n_components, n_steps], signed, at the steps of `series`, where the run has measured it.
    """

    series: Series
    group: str
    damage: np.ndarray | None = None


@dataclass(frozen=True)
class Ground:
    """What a run gives its policy before it begins.

    Attributes:
        model: the run's, without a bank; table: its components; numbers: what its bank can hold.
        scorer: name of the scores that the run takes; target: what it ranks components by.
        forecaster: makes the forecaster that the settings name; gate: whether forecasts have to prove themselves.
        history: recorded runs to learn from.
    """

    model: nn.Module
    table: ComponentTable
    numbers: Numbering
    scorer: str
    target: Target
    forecaster: Callable[[], Forecaster]
    gate: bool = True
    history: Sequence[Past] = ()

    def past(self, path: str) -> Past:
        """A recorded run, as this run ranks components. Raises as `recorded.read_past`."""
        return part("policies.recorded.read_past")(path, self.scorer, self.target)  # most runs have none


@dataclass(frozen=True)
class View:
    """What a policy may know when it decides.

    Attributes:
        table, n_vectors: the components and the budget in vectors.
        step: optimizer steps done; total_steps: of the whole run.
        series: snapshots of this run; what lies after `step` is never used. None if the run does not probe.
        seed: of random masks and tie-breaks.
        horizon: steps after `step` that a forecast is for (at most to the end of the run).
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


class Policy(ABC):
    """Base of all policies. `__init__` only keeps the policy's own parameters, which its entry in the catalogue
    explains; `prepare` reads files.

    Attributes:
        name: what the policy is called in settings.
        needs_scores: the run must probe, before the first decision too.
        remasks: later decisions can differ from the first.
        latest: share of the run up to which it decides at the run's cadence.
        forecasts: it watches before its first decision.
        scouts: it learns from a short run before training, which the trainer makes: of the "bank" or of an "adapter".
        watch, watch_steps: what is trained before a forecast, and for how many steps (None: a fifth of the run).
        ranks: it chooses by scores through `View.select`, so that a head share, cost awareness and limits apply.
        own_steps: steps at which it wants to decide besides the run's cadence.
        last_forecast: the last `Forecast`, whether it was believed or not, for a `SkillLog`; None without one.
        believes: the last mask rests on a forecast that has proved its worth, or is not asked to.
        words: a sentence on why the last mask was chosen, where a gate has judged a forecast.
        notes: numbers about the last mask that are to be logged, by name.
    """

    name: ClassVar[str]
    needs_scores: ClassVar[bool] = False
    forecasts: bool = False
    scouts: Literal["", "bank", "adapter"] = ""
    ranks: ClassVar[bool] = False
    remasks: bool = False
    latest: float = 1.0
    watch: str = "hold"
    watch_steps: int | None = None
    own_steps: frozenset[int] = frozenset()
    last_forecast: Forecast | None = None
    believes: bool = False
    words: str = ""
    notes: Mapping[str, float] = MappingProxyType({})

    def prepare(self, ground: Ground) -> None:  # noqa: B027 (most policies need nothing of the run)
        """Take what the policy needs of the run, and read its own files; called once, before the first mask.

        Raises:
            ConfigError: a file that cannot be used; TrajectoryError, CheckpointError: one of another model.
        """

    def rate_factor(self, n_vectors: int, seed: int) -> float:
        """What the run's learning rate is multiplied by, for its first mask; called once, after `prepare`."""
        return 1.0

    def watched(self, view: View) -> Mask | WeightMask | None:
        """What is trained within the budget before the first decision; None for what every run trains then: the mask of
        step 0, or masks that take turns.
        """
        return None

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


def require_same_components(series: Series, table: ComponentTable) -> None:
    """Raise TrajectoryError for a series of other components than the table's."""
    if not np.array_equal(series.name, table.name) or not np.array_equal(series.vectors, table.vectors):
        raise TrajectoryError(
            f"the series has {len(series)} components from {series.name[0]} to {series.name[-1]}, the model "
            f"{len(table)} from {table.name[0]} to {table.name[-1]}; use the same model and mlp_block"
        )
