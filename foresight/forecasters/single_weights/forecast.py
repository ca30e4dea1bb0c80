"""Forecasts of how far every weight will move: untrained rules, and a regression over the weights of recorded runs.

All of them only order weights. A forecast gives scores, in units of its own.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from ...common.errors import ConfigError, DataError, did_you_mean
from ...common.files import write_json
from .features import FEATURES, NEEDS, Measured, agreement, features, levels, signal_to_noise
from .statistics import DISPLACEMENT

Everything = Callable[[], Iterator[Measured]]
"""Goes over all matrices of a model, one at a time, as often as it is called."""


class MovementForecast(ABC):
    """Base of forecasts.

    Attributes:
        needs: names of the statistics that it reads.
    """

    needs: ClassVar[tuple[str, ...]]

    @abstractmethod
    def scores(self, everything: Everything) -> Iterator[tuple[str, Tensor]]:
        """Yield every matrix's module and its scores, float32 in the shape of the stored weight; higher moves more."""


class Displacement(MovementForecast):
    """As far as it has moved so far."""

    needs: ClassVar[tuple[str, ...]] = (DISPLACEMENT,)

    def scores(self, everything: Everything) -> Iterator[tuple[str, Tensor]]:
        for measured in everything():
            yield measured.module, measured.statistics[DISPLACEMENT] * self._factor(measured.statistics)

    def _factor(self, statistics: dict[str, Tensor]) -> Tensor:
        return torch.ones(())


class Agreement(Displacement):
    """The same, times the agreement of the gradient's signs over the steps: what kept its direction goes on."""

    needs = (DISPLACEMENT, "sign")

    def _factor(self, statistics: dict[str, Tensor]) -> Tensor:
        return agreement(statistics)


class SignalToNoise(Displacement):
    """The same, times the gradient's signal-to-noise ratio over the steps."""

    needs = (DISPLACEMENT, "gradient", "square")

    def _factor(self, statistics: dict[str, Tensor]) -> Tensor:
        return signal_to_noise(statistics)


@dataclass(frozen=True)
class Example:
    """Weights of a recorded run: features float32 [k, len(FEATURES)] early in it, and log10 of their final movement
    relative to its mean over the model, float32 [k].
    """

    features: np.ndarray
    moved: np.ndarray


def example(everything: Everything, final: Mapping[str, Tensor], layers: int, n: int, seed: int = 0) -> Example:
    """Draw about n weights of a recorded run, each equally likely.

    Args:
        everything: what was measured early in it; final: |theta_T - theta_0| in the end, by module, as stored.
        layers: of the model.

    Raises:
        DataError: nothing has moved.
    """
    weights = sum(values.numel() for values in final.values())
    mean = sum(float(values.double().sum()) for values in final.values()) / max(1, weights)
    if not mean > 0:
        raise DataError("no weight of the recorded run has moved; nothing can be learned from it")
    rng, level, rows, moved = np.random.default_rng([seed]), levels(everything()), [], []
    for measured in everything():
        drawn = torch.from_numpy(np.flatnonzero(rng.random(measured.weight.numel()) < n / weights))
        rows.append(features(measured, level, layers)[drawn])
        moved.append((final[measured.module].flatten()[drawn] / mean + 1e-3).log10())
    return Example(torch.cat(rows).numpy(), torch.cat(moved).numpy())


class Regression(MovementForecast):
    """Ridge regression of log movement on features and their squares, pooled over weights of recorded runs.

    Args:
        coefficients: float [2 * len(FEATURES)], of features and squares; intercept; layers: of the model it is for.
    """

    needs = NEEDS

    def __init__(self, coefficients: Sequence[float], intercept: float, layers: int):
        self.coefficients, self.intercept, self.layers = np.asarray(coefficients, np.float64), intercept, layers
        if self.coefficients.shape != (2 * len(FEATURES),) or not np.isfinite([*self.coefficients, intercept]).all():
            raise ConfigError(
                f"a movement regression has {self.coefficients.shape} coefficients, not all of them finite or not "
                f"{2 * len(FEATURES)}; train it anew"
            )

    @classmethod
    def fit(cls, runs: Sequence[Example], layers: int, alpha: float = 1e-3) -> Regression:
        """Learn from recorded runs, each with the same weight.

        Args:
            alpha: L2 penalty per weight, on standardised columns.

        Raises:
            DataError: no runs.
        """
        from sklearn.linear_model import Ridge

        if not runs:
            raise DataError("no recorded run to learn weight movement from; give at least one")
        design = np.concatenate([_design(run.features) for run in runs])
        moved = np.concatenate([run.moved for run in runs])
        shares = np.concatenate([np.full(len(run.moved), 1 / len(run.moved)) for run in runs])
        shares *= len(moved) / shares.sum()
        centre, spread = design.mean(0), design.std(0)
        spread[spread < 1e-9] = 1.0
        ridge = Ridge(alpha=alpha * len(moved)).fit((design - centre) / spread, moved, sample_weight=shares)
        coefficients = ridge.coef_ / spread
        return cls(coefficients, float(ridge.intercept_ - coefficients @ centre), layers)

    def scores(self, everything: Everything) -> Iterator[tuple[str, Tensor]]:
        level = levels(everything())
        for measured in everything():
            found = self.predict(features(measured, level, self.layers).numpy())
            yield measured.module, torch.from_numpy(found).float().view_as(measured.weight)

    def predict(self, rows: np.ndarray) -> np.ndarray:
        """log10 of movement relative to its mean, float64 [k], from features [k, len(FEATURES)]."""
        return _design(rows) @ self.coefficients + self.intercept

    def write(self, path: str | Path) -> None:
        """Save as JSON."""
        write_json(path, {"version": 1, "layers": self.layers, "features": list(FEATURES), "intercept": self.intercept,
                          "coefficients": self.coefficients.tolist()})  # fmt: skip

    @classmethod
    def read(cls, path: str | Path) -> Regression:
        """Load what `write` saved. Raises ConfigError for anything else."""
        try:
            data: dict[str, Any] = json.loads(Path(path).read_text())
            if data["version"] != 1 or data["features"] != list(FEATURES):
                raise ValueError(f"version {data['version']} with {len(data['features'])} features")
            return cls([float(c) for c in data["coefficients"]], float(data["intercept"]), int(data["layers"]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ConfigError(f"movement_rule {path}: no movement regression of this version ({error!r})") from error


_RULES: dict[str, type[MovementForecast]] = {
    "displacement": Displacement, "agreement": Agreement, "signal-to-noise": SignalToNoise,
}  # fmt: skip
RULES = tuple(_RULES)
"""Untrained forecasts, by name."""


def movement_forecast(rule: str) -> MovementForecast:
    """One of RULES, or the regression in a JSON file.

    Raises:
        ConfigError: neither.
    """
    if rule in _RULES:
        return _RULES[rule]()
    if rule.endswith(".json"):
        return Regression.read(rule)
    raise ConfigError(
        f"movement_rule is {rule!r}{did_you_mean(rule, RULES)}; expected one of {', '.join(RULES)}, or the .json file "
        "of a regression"
    )


def _design(rows: np.ndarray) -> np.ndarray:
    rows = rows.astype(np.float64)
    return np.hstack([rows, np.square(rows)])
