"""Calibration: one factor per kind of component, so that heads and MLP blocks can be ranked in one list.

Attribution is a first-order estimate whose error depends on the kind. The procedure is this project's own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from torch import nn

from .exact import ablation_effects
from .probes import Probe
from .scorer import scoring_mode
from .scores import Scores

if TYPE_CHECKING:
    from ..model.components import ComponentTable

TOP = 8


def calibrate(model: nn.Module, table: ComponentTable, probe: Probe, scores: Scores) -> dict[str, float]:
    """Estimate the factor per kind that brings attribution scores to the size of exact patching effects.

    MLPs are patched whole, all blocks of a layer at once, and compared with the sum of their blocks' scores. The `TOP`
    heads and KV groups by absolute score are patched one by one. The factor is the slope through zero of |exact| on
    |score| with the least absolute error, which a single outlier does not move.

    Args:
        scores: from `attribution` or a variant of it, with its default ablation and metric.

    Returns:
        A positive factor for every kind in the table; 1.0 where all scores or effects are zero.
    """
    factors = {}
    for kind in dict.fromkeys(table.kind.tolist()):
        members = np.flatnonzero(table.kind == kind)
        if kind == "mlp":
            groups = [members[table.layer[members] == layer] for layer in np.unique(table.layer[members])]
        else:
            strongest = members[np.argsort(-np.abs(scores.values[members]), kind="stable")][:TOP]
            groups = list(strongest[:, None])
        with scoring_mode(model):
            effects = ablation_effects(model, table, probe, [g.tolist() for g in groups]).mean(0)
        estimates = np.array([scores.values[g].sum(dtype=np.float64) for g in groups])
        factors[kind] = slope(np.abs(estimates), np.abs(effects))
    return factors


def slope(x: np.ndarray, y: np.ndarray) -> float:
    """Return the f >= 0 that minimises sum |y - f x| for x, y >= 0: the x-weighted median of y / x; 1.0 if it is 0."""
    used = x > 0
    if not used.any():
        return 1.0
    ratios, weights = y[used] / x[used], x[used]
    order = np.argsort(ratios)
    below = np.cumsum(weights[order])
    median = float(ratios[order][np.searchsorted(below, below[-1] / 2)])
    return median or 1.0
