"""Scores of components at the weights that a run is heading for: the Taylor forecast, and its direct control.

"Beyond Static Interpretability" (code: Zodiark-ch/Future_localization, future_localization.py) takes dtheta, the change
of the weights over a probing run, and estimates the scores at theta + K dtheta by the trapezoid rule on their slope:

    S(theta) + 1/2 [dS(theta).K dtheta + dS(theta + K dtheta).K dtheta],

each directional derivative by a forward difference of relative size EPSILON. That takes four scorings for one K. The
third of them is at theta + K dtheta itself, so scoring there and nothing else is cheaper and is what the forecast has
to beat: `shifted_scores`. K is drawn several times and the signed scores are averaged; absolute values come last.

Published forecasts choose the range of K by comparison with the fully trained model, which no forecast can see. The
rule here is known beforehand, and this project's own: with R the sum of the learning rates ahead over the sum of those
that made the displacement, weights that keep their direction move by R times the displacement, and weights in a random
walk by its square root. K is uniform between the two.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from torch import Tensor, nn

from ...common.errors import ConfigError
from ...model.components import ComponentTable
from ...scoring.probes import Probe
from ...scoring.scorer import Scorer
from .shift import Shift, in_float32, shifted

EPSILON = 1e-3
"""Step of the finite differences, as a share of K dtheta; the published value."""
DRAWS = 4
"""Draws of K that a forecast is averaged over."""


class WeightPath(Protocol):
    """Snapshots of the weights of one run, each read when it is asked for.

    Attributes:
        steps: optimizer steps of the snapshots, ascending.
    """

    @property
    def steps(self) -> Sequence[int]: ...

    def change(self, step: int) -> dict[str, Tensor]:
        """By target module, weights at `step` minus the base model's: float32 [output features, input features].

        A module that has not changed may be left out. The caller may change the tensors.
        """
        ...


def forecast_scores(
    method: str,
    base_model: nn.Module,
    table: ComponentTable,
    path: WeightPath,
    probe: Probe | None,
    scorer: Scorer,
    cutoff: int,
    horizon: int,
    learning_rates: np.ndarray,
    corrected: Callable[[np.ndarray], np.ndarray] = np.asarray,
    seed: int = 0,
) -> np.ndarray:
    """Scores of all components `horizon` steps after the cutoff, from the first and last weights up to the cutoff.

    Snapshots after the cutoff are not read, and the base model's weights are the same afterwards.

    Args:
        method: one of `foresight.forecasters.FROM_WEIGHTS`.
        base_model: the stock model that the run started from, float32 or bfloat16 (then scored in float32).
        cutoff: last step whose weights may be seen; the path needs two snapshots up to it.
        learning_rates: of optimizer steps 0, 1, ... as planned, at least up to the step that is forecast.
        corrected: what makes signed scores [n_components] comparable between components.
        seed: of the draws of K.

    Returns:
        Magnitudes, float64 [n_components]: |corrected score|.

    Raises:
        ConfigError: fewer than two snapshots up to the cutoff, or too few learning rates.
        NonFiniteError: the scores at the extrapolated weights are not finite.
    """
    steps, target = [step for step in path.steps if step <= cutoff], cutoff + horizon
    if len(steps) < 2:
        raise ConfigError(
            f"the path has steps {steps} up to the cutoff {cutoff}; a direction takes two snapshots: use a later cutoff"
        )
    if len(learning_rates) < target:
        raise ConfigError(
            f"{len(learning_rates)} learning rates for a forecast of step {target}; give the planned rate of every step"
        )
    first, last = steps[0], steps[-1]
    factors = draw_factors(learning_rates[last:target].sum(), learning_rates[first:last].sum(), seed)
    displacement = path.change(last)
    for module, change in path.change(first).items():
        displacement[module] = displacement[module].sub_(change) if module in displacement else change.neg_()
    score = {"taylor": taylor_scores, "displaced": shifted_scores}[method]
    with in_float32(base_model), shifted(base_model, path.change(last)):
        signed = score(base_model, table, probe, scorer, displacement, factors)
    return np.abs(corrected(signed))


def taylor_scores(
    model: nn.Module,
    table: ComponentTable,
    probe: Probe | None,
    scorer: Scorer,
    shift: Shift,
    factors: Sequence[float] | np.ndarray,
) -> np.ndarray:
    """The Taylor forecast of the scores at the weights + K x shift, averaged over the K in `factors`.

    Costs one scoring, and three more for each K; a bfloat16 model is scored in float32.

    Args:
        scorer: one whose samples are signed, such as attribution. Scores that are never negative (norms) are
            extrapolated all the same and may come out negative.

    Returns:
        Signed scores, float64 [n_components], not corrected.

    Raises:
        ConfigError: a shift that does not fit.
        NonFiniteError: the scores at some shifted weights are not finite.
    """
    forecasts = []
    with in_float32(model):
        here = _signed_scores(model, table, probe, scorer)
        for k in factors:
            near_here, there, near_there = (
                _signed_scores(model, table, probe, scorer, shift, factor)
                for factor in (EPSILON * k, k, (1 + EPSILON) * k)
            )
            forecasts.append(here + ((near_here - here) + (near_there - there)) / (2 * EPSILON))
    return np.mean(forecasts, axis=0)


def shifted_scores(
    model: nn.Module,
    table: ComponentTable,
    probe: Probe | None,
    scorer: Scorer,
    shift: Shift,
    factors: Sequence[float] | np.ndarray = (1.0,),
) -> np.ndarray:
    """The scores at the weights + K x shift themselves, averaged over the K in `factors`: one scoring per K.

    Arguments, result and errors as for `taylor_scores`.
    """
    with in_float32(model):
        return np.mean([_signed_scores(model, table, probe, scorer, shift, k) for k in factors], axis=0)


def draw_factors(ahead: float, behind: float, seed: int) -> np.ndarray:
    """K drawn uniformly between R = ahead / behind and its square root: float64 [DRAWS], by the seed alone.

    Args:
        ahead: sum of learning rates over the optimizer steps to come.
        behind: the same over the steps that made the displacement.

    Raises:
        ConfigError: `behind` is not above 0, `ahead` is negative, or one is not finite.
    """
    if not (math.isfinite(ahead) and math.isfinite(behind) and ahead >= 0 and behind > 0):
        raise ConfigError(
            f"learning rates sum to {behind:g} over the steps seen and {ahead:g} over those to come; expected a finite "
            "sum above 0, and one of at least 0"
        )
    ratio = ahead / behind
    low, high = sorted((ratio, math.sqrt(ratio)))
    return np.random.default_rng([seed]).uniform(low, high, DRAWS)


def _signed_scores(
    model: nn.Module,
    table: ComponentTable,
    probe: Probe | None,
    scorer: Scorer,
    shift: Shift | None = None,
    factor: float = 1.0,
) -> np.ndarray:
    """Mean of the scorer's samples at the weights + factor x shift, float64 [n_components].

    This is `Scorer.score` before its rounding, which finite differences cannot afford. Raises NonFiniteError.
    """
    with shifted(model, shift or {}, factor):
        samples = scorer.samples(model, table, probe)
    scorer.combine(samples, table)  # names a component whose score is not finite
    return samples.mean(0, dtype=np.float64)
