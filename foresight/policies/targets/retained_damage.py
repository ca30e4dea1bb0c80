"""Benefit and damage over the rest of a run, extrapolated from what was measured so far.

Forecasters take magnitudes. Damage has a sign, so its positive part (harm) and its negative part (help) are forecast
as two series and subtracted: exact for what was measured, and the same as forecasting damage itself for every linear
forecaster that stays above zero. Our own definition.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ...common.errors import TrajectoryError
from ...forecasters import Forecaster
from ...trajectory.series import Series

HORIZONS = 4
"""Points of the rest of the run at which a forecast is made; their mean stands for the whole."""


def parts(benefit: Series, damage: np.ndarray) -> tuple[Series, Series, Series]:
    """The three series of magnitudes that are forecast: benefit, harm and help.

    Args:
        damage: float32 [n_components, n_steps], signed, at the steps of `benefit`.

    Raises:
        TrajectoryError: damage has another shape.
        NonFiniteError: it is NaN or infinite.
    """
    if np.shape(damage) != benefit.values.shape:
        raise TrajectoryError(
            f"damage has shape {np.shape(damage)}; expected that of benefit, {benefit.values.shape}: both are measured "
            "at every snapshot"
        )
    harm, help_ = (replace(benefit, values=np.maximum(sign * damage, 0)) for sign in (1, -1))
    return benefit, harm, help_


def over_the_rest(
    forecaster: Forecaster, benefit: Series, damage: np.ndarray, left: int
) -> tuple[np.ndarray, np.ndarray]:
    """Mean benefit and mean damage of a step, over the `left` steps after the last measurement.

    The mean is taken at the ends of `HORIZONS` equal pieces of them (fewer, if there are fewer steps). A forecaster
    that repeats the last measurement gives exactly that measurement.

    Args:
        forecaster: fitted anew to each of the `parts`; keeps its pretraining.
        damage: as for `parts`; left: >= 1.

    Returns:
        Two float64 [n_components].
    """
    count = min(HORIZONS, left)
    horizons = [round(left * (i + 1) / count) for i in range(count)]
    means = []
    for series in parts(benefit, damage):
        fitted = forecaster.fit(series)
        means.append(np.mean([fitted.predict(horizon).astype(np.float64) for horizon in horizons], axis=0))
    return means[0], means[1] - means[2]
