"""Forecasts from the path that the weights of a run have taken so far."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from torch import Tensor, nn

from ...common.errors import ConfigError, one_of
from ...model.components import ComponentTable
from ...scoring import Probe, Scorer
from .laws import displacement, linear, logarithmic
from .reach import draw
from .shift import in_float32, shifted
from .taylor import shifted_scores, taylor_scores

_LAWS = {"linear_weights": linear, "logarithmic_weights": logarithmic}
METHODS = ("taylor", "displaced", *_LAWS)
"""Names for `forecast`: the Taylor method, its control at the displaced weights, and the two laws of least squares."""


class WeightPath(Protocol):
    """Snapshots of the weights of one run, each read when it is asked for.

    Attributes:
        steps: optimizer steps of the snapshots, ascending.
    """

    @property
    def steps(self) -> Sequence[int]: ...

    def change(self, step: int) -> dict[str, Tensor]:
        """By target module, weights at `step` less the base model's: float32 [output features, input features].

        A module that has not changed may be left out. The tensors are the caller's to change.
        """
        ...


def forecast(
    name: str,
    base_model: nn.Module,
    table: ComponentTable,
    path: WeightPath,
    probe: Probe | None,
    scorer: Scorer,
    cutoff: int,
    horizon: int,
    learning_rates: Sequence[float] | np.ndarray,
    calibration: np.ndarray | None = None,
    seed: int = 0,
) -> np.ndarray:
    """Scores of all components `horizon` steps after the cutoff, from the weights up to the cutoff.

    Snapshots after the cutoff are not read, and the base model's weights are as they were afterwards.

    Args:
        name: one of `METHODS`. ``taylor`` and ``displaced`` go on along the displacement from the first to the last
            snapshot by a factor K (see `reach`), ``linear_weights`` and ``logarithmic_weights`` by `laws`, and score
            there.
        base_model: the stock model that the run started from, float32 or bfloat16 (then scored in float32).
        cutoff: last step whose weights may be seen; there must be two snapshots up to it.
        learning_rates: of optimizer steps 0, 1, ... as planned, at least up to the step that is forecast.
        calibration: factor of every component [n_components] that makes kinds comparable; by default 1.
        seed: of the draws of K.

    Returns:
        Magnitudes, float64 [n_components]: |score| x calibration.

    Raises:
        UnknownNameError: no such method.
        ConfigError: fewer than two snapshots up to the cutoff, a horizon below 1, or too few learning rates.
        NonFiniteError: the scores at the extrapolated weights are not finite.
    """
    one_of("forecast from weights", name, METHODS)
    steps, target = [step for step in path.steps if step <= cutoff], cutoff + horizon
    if len(steps) < 2:
        raise ConfigError(f"the path has steps {steps} up to the cutoff {cutoff}; a direction takes two: cut off later")
    if horizon < 1:
        raise ConfigError(f"horizon is {horizon}; expected at least 1 step")
    if len(learning_rates) < target:
        raise ConfigError(
            f"{len(learning_rates)} learning rates for a forecast of step {target}; give the planned rate of every step"
        )
    last, law = steps[-1], _LAWS.get(name)
    shift = combine(path, steps, law(steps, target - last) if law else displacement(len(steps)))
    factors = np.ones(1)
    if law is None:
        rates = np.asarray(learning_rates, np.float64)
        factors = draw(rates[last:target].sum(), rates[steps[0] : last].sum(), seed)
    score = taylor_scores if name == "taylor" else shifted_scores
    with in_float32(base_model), shifted(base_model, path.change(last)):
        signed = score(base_model, table, probe, scorer, shift, factors)
    return np.abs(signed) * (1.0 if calibration is None else calibration)


def combine(path: WeightPath, steps: Sequence[int], coefficients: np.ndarray) -> dict[str, Tensor]:
    """sum c_i theta_i over the snapshots, as a shift; holds one snapshot at a time besides the sum.

    Snapshots whose coefficient is 0 are not read.
    """
    total: dict[str, Tensor] = {}
    for step, coefficient in zip(steps, coefficients.tolist(), strict=True):
        if coefficient:
            for module, change in path.change(step).items():
                if module in total:
                    total[module].add_(change, alpha=coefficient)
                else:
                    total[module] = change.mul_(coefficient)
    return total
