"""Forecasts of how far every weight will move: untrained rules, and a regression on the weights of recorded runs.

A forecast is an order of the weights: its scores have no unit that two forecasts share.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from ...common.errors import ConfigError, DataError, did_you_mean
from ...common.files import write_json
from .features import FEATURES, NEEDS, WatchedMatrix, agreement, features, levels, signal_to_noise
from .sums import DISPLACEMENT

Everything = Callable[[], Iterator[WatchedMatrix]]
"""Iterates over all matrices of a model, one at a time, whenever it is called."""


class MovementForecast(Protocol):
    """What forecasts how far weights will move.

    Attributes:
        needs: names of the sums that it reads.
    """

    @property
    def needs(self) -> tuple[str, ...]: ...

    def scores(self, everything: Everything) -> Iterator[tuple[str, Tensor]]:
        """Yield every matrix's module and its scores, float32 in the shape of the stored weight; higher moves more."""
        ...


@dataclass(frozen=True)
class Rule:
    """An untrained forecast: the distance moved so far, times a function of a matrix's sums."""

    needs: tuple[str, ...]
    factor: Callable[[dict[str, Tensor]], Tensor]

    def scores(self, everything: Everything) -> Iterator[tuple[str, Tensor]]:
        """See `MovementForecast`."""
        for measured in everything():
            yield measured.module, measured.sums[DISPLACEMENT] * self.factor(measured.sums)


RULES = {
    "displacement": Rule((DISPLACEMENT,), lambda sums: torch.ones(())),
    "agreement": Rule((DISPLACEMENT, "sign"), agreement),
    "signal-to-noise": Rule((DISPLACEMENT, "gradient", "square"), signal_to_noise),
}
"""Untrained forecasts by name. The last two expect weights to keep their direction if their gradients did."""


@dataclass(frozen=True)
class Example:
    """Some weights of a recorded run.

    Attributes:
        features: early in the run, float32 [k, len(FEATURES)].
        moved: log10 of (final movement / its mean over the model + .001), float32 [k].
    """

    features: np.ndarray
    moved: np.ndarray


def example(everything: Everything, final: Mapping[str, Tensor], layers: int, n: int, seed: int = 0) -> Example:
    """Draw about n weights of a recorded run, each equally likely.

    Args:
        everything: what was measured early in the run.
        final: |theta_T - theta_0| at its end, by module, as stored.
        layers: number of layers of the model.

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


class Regression:
    """Ridge regression of log movement on features and their squares, pooled over weights of recorded runs.

    Args:
        coefficients: of features and squares, float [2 * len(FEATURES)].
        intercept: of log10 movement.
        layers: number of layers of the model that it is for.
    """

    needs = NEEDS

    def __init__(self, coefficients: Sequence[float], intercept: float, layers: int):
        self.coefficients, self.intercept, self.layers = np.asarray(coefficients, np.float64), intercept, layers
        if self.coefficients.shape != (2 * len(FEATURES),) or not np.isfinite([*self.coefficients, intercept]).all():
            raise ConfigError(
                f"a movement regression has coefficients of shape {self.coefficients.shape}; expected "
                f"{2 * len(FEATURES)} finite ones: train it again"
            )

    @classmethod
    def fit(cls, runs: Sequence[Example], layers: int, alpha: float = 1e-3) -> Regression:
        """Learn from recorded runs, all counting alike however many examples they give.

        Args:
            alpha: L2 penalty per example, on standardised columns.

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
        """log10 of movement over its mean, float64 [k], from features [k, len(FEATURES)]."""
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
            raise ConfigError(f"movement_rule {path} is not a movement regression ({error!r})") from error


def movement_forecast(rule: str) -> MovementForecast:
    """One of RULES, or the regression in a JSON file.

    Raises:
        ConfigError: neither.
    """
    if rule in RULES:
        return RULES[rule]
    if rule.endswith(".json"):
        return Regression.read(rule)
    raise ConfigError(
        f"movement_rule is {rule!r}{did_you_mean(rule, RULES)}; expected one of {', '.join(RULES)}, or the .json file "
        "of a regression"
    )


def _design(rows: np.ndarray) -> np.ndarray:
    rows = rows.astype(np.float64)
    return np.hstack([rows, np.square(rows)])
