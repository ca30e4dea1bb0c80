"""Policies: which components are trained next, under the budget.

A policy is asked for a mask at every decision and sees one `View`. Ties are broken the same way every time, so that the
same views give the same masks.
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from scipy.stats import rankdata

from .components import ComponentTable
from .errors import BudgetError, CheckpointError, ConfigError, TrajectoryError, UnknownNameError, did_you_mean
from .forecasters import Forecaster
from .masks import Mask, MaskSchedule, everything, select
from .series import Series
from .skill_log import Forecast


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
    """

    table: ComponentTable
    n_vectors: int
    step: int
    total_steps: int
    series: Series | None = None
    seed: int = 0
    horizon: int = 1
    cutoff: int | None = None

    def seen(self, until: int | None = None) -> Series:
        """The snapshots up to `step`, or `until` if that is earlier.

        Raises:
            ConfigError: the run has no snapshot yet, or none of this model's components.
        """
        if self.series is None:
            raise ConfigError(f"the policy needs scores at step {self.step}; probe the model before asking for a mask")
        _require_same_components(self.series, self.table)
        return self.series.until(self.step if until is None else min(self.step, until))


class Policy(ABC):
    """Base of all policies. The parameters of `__init__` are what `make_policy` has to be given.

    Attributes:
        name: what the policy is called in settings.
        needs_scores: the run must probe, before the first decision too.
        remasks: later decisions can differ from the first.
        forecasts: sets `last_forecast`.
        own_steps: steps at which it wants to decide besides the run's cadence.
        last_forecast: the `Forecast` behind the last mask, for a `SkillLog`; None without one.
    """

    name: ClassVar[str]
    needs_scores: ClassVar[bool] = False
    forecasts: ClassVar[bool] = False
    remasks: bool = False
    own_steps: frozenset[int] = frozenset()
    last_forecast: Forecast | None = None

    @abstractmethod
    def mask(self, view: View) -> Mask:
        """The components to train from `view.step` on. Raises ConfigError for a view without what is needed."""

    def state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """(arrays, JSON) of what a resumed run could not work out again; empty for most policies."""
        return {}, {}

    def load_state(self, arrays: Mapping[str, np.ndarray], data: Mapping[str, Any]) -> None:
        """Inverse of `state`. Raises CheckpointError for the state of another policy."""
        if arrays or data:
            raise CheckpointError(f"policy {self.name!r} has no state; the checkpoint has {[*arrays, *data]}")


class Full(Policy):
    """Everything, whatever the budget."""

    name = "full"

    def mask(self, view: View) -> Mask:
        return everything(view.table)


class Static(Policy):
    """The circuit of the first snapshot, for good: locate, then update."""

    name = "static"
    needs_scores = True

    def mask(self, view: View) -> Mask:
        return select(view.seen().values[:, 0], view.table, view.n_vectors)


class Random(Policy):
    """Components in random order under the same budget.

    Args:
        redraw: draw anew at every decision, from (seed, step); otherwise once, from the seed.
    """

    name = "random"

    def __init__(self, redraw: bool = False):
        self.redraw = self.remasks = redraw

    def mask(self, view: View) -> Mask:
        rng = np.random.default_rng([view.seed, view.step] if self.redraw else [view.seed])
        return select(rng.random(len(view.table)), view.table, view.n_vectors)


class Prior(Policy):
    """What past runs say of a component that is known by layer and kind alone: the control for every forecast.

    A component of a past run has as score its rank within that run's last snapshot (0 to 1, equal scores alike). Ranks
    are averaged over the components of one layer and kind, over the past model's layers that share relative depth
    with a layer of this model (layer l of L spans l/L to (l+1)/L; layers count by the depth they share), and over the
    runs. Own definition. Components of the same layer and kind tie; ties are broken by a permutation drawn from the
    seed, since table order would always take the lowest indexes.

    Args:
        history: series of past runs, at least one; of any model whose components have the same kinds.
    """

    name = "prior"

    def __init__(self, history: Sequence[Series]):
        self.history = list(history)
        if not self.history:
            raise ConfigError(_missing("prior", "history"))

    def mask(self, view: View) -> Mask:
        ties = np.random.default_rng([view.seed]).permutation(len(view.table))
        order = np.lexsort((ties, -self.scores(view.table)))
        scores = np.empty(len(view.table))
        scores[order] = np.arange(len(order), 0, -1)
        return select(scores, view.table, view.n_vectors)

    def scores(self, table: ComponentTable) -> np.ndarray:
        """Expected rank of each component, float64 [n_components] in [0, 1]; equal within a layer and kind."""
        scores = np.empty(len(table))
        n_layers = int(table.layer.max()) + 1
        for kind in np.unique(table.kind):
            ranks = [_rank_by_layer(series, kind, n_layers) for series in self.history if (series.kind == kind).any()]
            if not ranks:
                raise ConfigError(f"policy 'prior': no run in history has a component of kind {str(kind)!r}; add one")
            members = table.kind == kind
            scores[members] = np.mean(ranks, axis=0)[table.layer[members]]
        return np.round(scores, 12)  # sums in another order must not break ties


class Reactive(Policy):
    """The circuit of the last snapshot."""

    name = "reactive"
    needs_scores = True
    remasks = True

    def mask(self, view: View) -> Mask:
        return select(view.seen().values[:, -1], view.table, view.n_vectors)


class Foresight(Policy):
    """The circuit that is forecast for `view.horizon` steps ahead, from the snapshots up to the cutoff.

    Args:
        forecaster: it is fitted anew at every decision and keeps its pretraining.
        history: series of past runs to pretrain it on, if any.
    """

    name = "foresight"
    needs_scores = True
    forecasts = True
    remasks = True

    def __init__(self, forecaster: Forecaster, history: Sequence[Series] = ()):
        self.forecaster = forecaster
        if history:
            forecaster.pretrain(history)

    def mask(self, view: View) -> Mask:
        seen = view.seen(view.cutoff)
        made_at = int(seen.steps[-1])
        for_step = max(made_at + 1, min(view.step + view.horizon, view.total_steps))
        prediction = self.forecaster.fit(seen).predict(for_step - made_at)
        self.last_forecast = Forecast(made_at, for_step, prediction, seen.values[:, -1])
        return select(prediction, view.table, view.n_vectors)

    def state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        return self.forecaster.state()

    def load_state(self, arrays: Mapping[str, np.ndarray], data: Mapping[str, Any]) -> None:
        self.forecaster.load_state(arrays, data)


class Oracle(Policy):
    """The circuit at the end of a recorded full run of the same task: hindsight, not a method.

    Args:
        oracle_trajectory: its series, over the same components as the model in training.
    """

    name = "oracle"

    def __init__(self, oracle_trajectory: Series):
        self.series = oracle_trajectory

    def mask(self, view: View) -> Mask:
        _require_same_components(self.series, view.table)
        return select(self.series.values[:, -1], view.table, view.n_vectors)


class Replay(Policy):
    """The masks of a saved schedule."""

    name = "replay"

    def __init__(self, mask_schedule: MaskSchedule):
        self.schedule = mask_schedule
        self.own_steps = frozenset(step for step, _ in mask_schedule.entries)
        self.remasks = len(mask_schedule.entries) > 1

    def mask(self, view: View) -> Mask:
        mask = self.schedule.at(view.step)
        size = int(view.table.vectors[list(mask.components)].sum())
        if size > view.n_vectors:
            raise BudgetError(
                f"mask schedule: its mask at step {view.step} has {size} vectors, the budget buys {view.n_vectors}; "
                f"raise the budget to {size * view.table.d_model / view.table.model_parameters:.4g}"
            )
        return mask


_POLICIES: dict[str, type[Policy]] = {
    cls.name: cls for cls in (Full, Static, Random, Prior, Reactive, Foresight, Oracle, Replay)
}
POLICIES = tuple(_POLICIES)

NEEDS = {
    "forecaster": "a forecaster, see `foresight forecasters list`",
    "history": "trajectory folders of past runs, at least one",
    "mask_schedule": "the schedule.json of a run",
    "oracle_trajectory": "the trajectory folder of a recorded run with policy 'full' on this task and model",
    "redraw": "whether random masks are drawn anew at every re-mask",
}
"""What policies can be given, in the words of an error message."""


def policy_class(name: str) -> type[Policy]:
    """The policy registered under a name. Raises UnknownNameError, which offers the closest."""
    if name not in _POLICIES:
        raise UnknownNameError("policy", name, POLICIES)
    return _POLICIES[name]


def make_policy(name: str, **needs: Any) -> Policy:
    """Build a policy from what the run has: those of NEEDS that it takes are passed on, None counts as absent.

    Raises:
        UnknownNameError: no policy of that name; the message offers the closest.
        ConfigError: something the policy needs is absent, or nothing in NEEDS has that name.
    """
    cls = policy_class(name)
    for need in needs:
        if need not in NEEDS:
            raise ConfigError(f"policies know no {need!r}{did_you_mean(need, NEEDS)}; known: {', '.join(NEEDS)}")
    params = inspect.signature(cls).parameters
    given = {need: value for need, value in needs.items() if need in params and value is not None}
    for param, spec in params.items():
        if spec.default is spec.empty and param not in given:
            raise ConfigError(_missing(name, param))
    return cls(**given)


def _missing(policy: str, need: str) -> str:
    return f"policy {policy!r} needs {need}: {NEEDS[need]}"


def _require_same_components(series: Series, table: ComponentTable) -> None:
    if not np.array_equal(series.name, table.name) or not np.array_equal(series.vectors, table.vectors):
        raise TrajectoryError(
            f"the series has {len(series)} components from {series.name[0]} to {series.name[-1]}, the model "
            f"{len(table)} from {table.name[0]} to {table.name[-1]}; use the same model and mlp_block"
        )


def _rank_by_layer(series: Series, kind: str, n_layers: int) -> np.ndarray:
    """Mean ranks in [0, 1] of a kind, [n_layers], with the layers of the series mapped to `n_layers` by depth."""
    members = series.kind == kind
    ranks = (rankdata(series.values[:, -1])[members] - 1) / max(1, len(series) - 1)
    own = int(series.layer.max()) + 1
    count, total = (np.bincount(series.layer[members], weights, own) for weights in (None, ranks))
    edges, own_edges = np.arange(n_layers + 1) * own, np.arange(own + 1) * n_layers  # exact, as integers
    shared = np.minimum(edges[1:, None], own_edges[1:]) - np.maximum(edges[:-1, None], own_edges[:-1])
    shared = shared.clip(0) * (count > 0)
    mean = total / np.maximum(count, 1)
    return np.where(shared.any(1), shared @ mean / np.maximum(shared.sum(1), 1), ranks.mean())
