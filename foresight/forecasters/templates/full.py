"""Template: all that a forecaster can have: parameters, past runs, a saved state, a fallback.

To offer it from your own package, name it in pyproject.toml and install the package::

    [project.entry-points."foresight.forecasters"]
    reversion = "my_package.reversion:Reversion"

In a script or a notebook the decorator `@register("reversion")` of foresight.forecasters does the same, and
`foresight forecasters check my_package.reversion:Reversion` needs neither.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from ...common.errors import CheckpointError
from ...trajectory.series import Series
from .. import Forecaster, check_range
from ..relative import from_relative, to_relative

MIN_SNAPSHOTS = 3


class Reversion(Forecaster):
    """The log score reverts to its mean over time, at a rate learned from this run and from past ones.

    A first-order autoregression around the mean of each component, with one coefficient for all of them:
    x(t + 1) - m = phi (x(t) - m) + noise. Over h snapshots phi becomes phi^h.

    Args:
        prior_weight: past runs count as this many snapshots of this one, 0 to 1e6.

    Attributes:
        phi_: the coefficient, in [0, 1].
    """

    # True: fit is refused before pretrain. Here past runs help, but this run alone is enough.
    needs_pretraining: ClassVar[bool] = False

    # Name here the rules of the conformance suite that it cannot keep, each with the reason. This one keeps all.
    expected_failures: ClassVar[Mapping[str, str]] = {}

    def __init__(self, prior_weight: float = 10.0):
        self.prior_weight = prior_weight  # __init__ only stores: clone and set_params rely on it

    def _check_params(self) -> None:
        check_range(self, "prior_weight", 0, 1e6)

    # -- past runs: optional, possibly of other models, kept as plain arrays --

    def _pretrain(self, histories: list[Series]) -> None:
        moments = [_moments(to_relative(series.values)[0]) for series in histories]
        self.past_ = np.mean(moments, axis=0)

    def _pretrained_arrays(self) -> dict[str, np.ndarray]:
        return {"moments": self.past_} if hasattr(self, "past_") else {}

    def _load_pretrained(self, arrays: dict[str, np.ndarray]) -> None:
        past = arrays.pop("moments", np.zeros(0))  # a file can hold anything: check dtype, shape and values
        if past.dtype != np.float64 or past.shape != (2,) or not (np.isfinite(past).all() and past[0] >= 0):
            raise CheckpointError(f"'moments' is {past.dtype} {past.shape}; expected float64 (2,), finite")
        self.past_ = past

    # -- this run --

    def _fit(self, series: Series) -> None:
        logs, levels = to_relative(series.values)
        t, past = len(series.steps), getattr(self, "past_", np.zeros(2))
        if t < MIN_SNAPSHOTS and not past.any():  # fallback_ says why the forecast is only the last snapshot
            self.fallback_ = f"persistence: {t} snapshots, {MIN_SNAPSHOTS} are needed to learn from"
        weights = np.array([t - 1, self.prior_weight if past.any() else 0])
        before, product = weights @ [_moments(logs), past] / max(1.0, weights.sum())
        self.phi_ = float(np.clip(product / before, 0, 1)) if before > 0 else 1.0
        self.mean_, self.last_, self.level_ = logs.mean(1, dtype=np.float64), logs[:, -1], float(levels[-1])

    def _predict(self, horizon: int) -> np.ndarray:
        left = self.phi_ ** (horizon / self.series_.cadence)
        return from_relative(self.mean_ + left * (self.last_ - self.mean_), self.level_)


def _moments(logs: np.ndarray) -> np.ndarray:
    """Mean square before a step and mean product across it, float64 [2], of logs [n, t] about their means."""
    if logs.shape[1] < 2:
        return np.zeros(2)
    away = logs - logs.mean(1, keepdims=True, dtype=np.float64)
    one, two = away[:, :-1], away[:, 1:]
    return np.array([(one * one).mean(), (one * two).mean()])
