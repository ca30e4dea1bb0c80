"""Scores where the weights are going: the Taylor forecast, and its direct control.

"Beyond Static Interpretability" (code: Zodiark-ch/Future_localization, future_localization.py) takes dtheta, the change
of the weights over a probing run, and estimates the scores at theta + K dtheta by the trapezoid rule on their slope:

    S(theta) + 1/2 [dS(theta).K dtheta + dS(theta + K dtheta).K dtheta],

each directional derivative by a forward difference of relative size EPSILON. That takes four scorings for one K. The
second of them is at theta + K dtheta itself, so scoring there and nothing else is cheaper and is what the forecast
has to beat: `shifted_scores`. K is drawn several times and the signed scores are averaged; absolute values come last.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import nn

from ...common.errors import ConfigError
from ...model.components import ComponentTable
from ...scoring import Probe, Scorer
from .shift import Shift, in_float32, shifted

EPSILON = 1e-3
"""Step of the finite differences, as a share of K dtheta; the published value."""


def taylor_scores(
    model: nn.Module,
    table: ComponentTable,
    probe: Probe | None,
    scorer: Scorer,
    shift: Shift,
    factors: Sequence[float] | np.ndarray,
    epsilon: float = EPSILON,
) -> np.ndarray:
    """The Taylor forecast of the scores at the weights + K x shift, averaged over the K in `factors`.

    Costs one scoring, and three more for each K; a bfloat16 model is scored in float32.

    Args:
        scorer: one whose samples are signed, such as attribution; scores that are never negative (norms) are
            extrapolated all the same, and may come out negative.

    Returns:
        Signed scores, float64 [n_components], not calibrated.

    Raises:
        ConfigError: no factor, or one that is not finite; an epsilon that is not above 0; a shift that does not fit.
        NonFiniteError: the scores at some shifted weights are not finite.
    """
    if not epsilon > 0:
        raise ConfigError(f"epsilon is {epsilon}; expected a number above 0")
    forecasts = []
    with in_float32(model):
        here = signed_scores(model, table, probe, scorer)
        for k in _finite(factors):
            with shifted(model, shift, epsilon * k):
                near_here = signed_scores(model, table, probe, scorer)
            with shifted(model, shift, k):
                there = signed_scores(model, table, probe, scorer)
            with shifted(model, shift, (1 + epsilon) * k):
                near_there = signed_scores(model, table, probe, scorer)
            forecasts.append(here + ((near_here - here) + (near_there - there)) / (2 * epsilon))
    return np.mean(forecasts, axis=0)


def shifted_scores(
    model: nn.Module,
    table: ComponentTable,
    probe: Probe | None,
    scorer: Scorer,
    shift: Shift,
    factors: Sequence[float] | np.ndarray = (1.0,),
) -> np.ndarray:
    """The scores at the weights + K x shift themselves, averaged over the K in `factors`: one scoring for each.

    Arguments, result and errors as for `taylor_scores`.
    """
    found = []
    with in_float32(model):
        for k in _finite(factors):
            with shifted(model, shift, k):
                found.append(signed_scores(model, table, probe, scorer))
    return np.mean(found, axis=0)


def signed_scores(model: nn.Module, table: ComponentTable, probe: Probe | None, scorer: Scorer) -> np.ndarray:
    """Mean of the scorer's samples, float64 [n_components]: `Scorer.score` before it is rounded, which finite
    differences would suffer from. Raises NonFiniteError.
    """
    samples = scorer.samples(model, table, probe)
    scorer.combine(samples, table)  # names a component whose score is not finite
    return samples.mean(0, dtype=np.float64)


def _finite(factors: Sequence[float] | np.ndarray) -> list[float]:
    found = np.asarray(factors, np.float64)
    if found.ndim != 1 or not len(found) or not np.isfinite(found).all():
        raise ConfigError(f"factors of the shift are {factors}; expected at least one finite number")
    return found.tolist()
