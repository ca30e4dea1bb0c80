"""Template: all that a forecaster can have: parameters, past runs, a saved state, quantiles, a fallback.

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
from scipy.special import ndtri

from ...common.errors import CheckpointError
from ...trajectory.series import Series
from .. import Forecaster, check_range
from ..relative import from_relative, to_relative

MIN_SNAPSHOTS = 3


class Reversion(Forecaster):
    """The log score reverts to its mean over time, at a rate learned from this run and from past ones.

    A first-order autoregression around the mean of each component, with one coefficient for all of them:
    x(t + 1) - m = phi (x(t) - m) + noise. Over h snapshots phi becomes phi^h and the variance of the noise counts
    1 + phi^2 + ... + phi^(2h - 2) times, which gives normal quantiles of the log.

    Args:
        prior_weight: past runs count as this many snapshots of this one, 0 to 1e6.

    Attributes:
        phi_: the coefficient, in [0, 1]; noise_: standard deviation of the noise.
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
        if past.dtype != np.float64 or past.shape != (3,) or not (np.isfinite(past).all() and (past[:2] >= 0).all()):
            raise CheckpointError(f"'moments' is {past.dtype} {past.shape}; expected float64 (3,), finite")
        self.past_ = past

    # -- this run --

    def _fit(self, series: Series) -> None:
        logs, levels = to_relative(series.values)
        t, past = len(series.steps), getattr(self, "past_", np.zeros(3))
        if t < MIN_SNAPSHOTS and not past.any():  # fallback_ says why the forecast is only the last snapshot
            self.fallback_ = f"persistence: {t} snapshots, {MIN_SNAPSHOTS} are needed to learn from"
        weights = np.array([t - 1, self.prior_weight if past.any() else 0])
        before, after, product = weights @ [_moments(logs), past] / max(1.0, weights.sum())
        self.phi_ = float(np.clip(product / before, 0, 1)) if before > 0 else 1.0
        self.noise_ = float(np.sqrt(max(0.0, after - self.phi_ * product)))
        self.mean_, self.last_, self.level_ = logs.mean(1, dtype=np.float64), logs[:, -1], float(levels[-1])

    def _predict(self, horizon: int) -> np.ndarray:
        return self._scores_at(horizon, 0.0)

    def _predict_quantiles(self, horizon: int, levels: np.ndarray) -> np.ndarray:
        return np.column_stack([self._scores_at(horizon, z) for z in ndtri(levels)])

    def _scores_at(self, horizon: int, z: float) -> np.ndarray:
        """Scores [n] that lie `z` standard deviations of the log above the middle."""
        ahead = horizon / self.series_.cadence
        phi = 1.0 if self.fallback_ else self.phi_
        variance = ahead if phi == 1 else (1 - phi ** (2 * ahead)) / (1 - phi**2)
        middle = self.mean_ + phi**ahead * (self.last_ - self.mean_)
        return from_relative(middle + z * self.noise_ * np.sqrt(variance), self.level_)


def _moments(logs: np.ndarray) -> np.ndarray:
    """Mean squares before and after a step and their mean product, float64 [3], of logs [n, t] about their means."""
    if logs.shape[1] < 2:
        return np.zeros(3)
    away = logs - logs.mean(1, keepdims=True, dtype=np.float64)
    one, two = away[:, :-1], away[:, 1:]
    return np.array([(one * one).mean(), (two * two).mean(), (one * two).mean()])
