"""How far ahead: the factor K by which a displacement of weights seen so far is multiplied.

Published forecasts choose the range of K by comparison with the fully trained model ("Beyond Static
Interpretability"), which no forecast can see. The rule here is known beforehand, and this project's own: with R the
sum of the learning rates ahead over the sum of those that made the displacement, weights that go straight on move by R
times the displacement and weights in a random walk by its square root. K is uniform between the two.
"""

from __future__ import annotations

import math

import numpy as np

from ...common.errors import ConfigError

DRAWS = 4
"""Draws of K that a forecast is averaged over."""


def reach(ahead: float, behind: float) -> tuple[float, float]:
    """(least, greatest) K: (min, max) of R and its square root, for R = ahead / behind.

    Args:
        ahead: sum of learning rates over the optimizer steps that are to come.
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
    return min(ratio, math.sqrt(ratio)), max(ratio, math.sqrt(ratio))


def draw(ahead: float, behind: float, seed: int, draws: int = DRAWS) -> np.ndarray:
    """K drawn uniformly between the ends of `reach`: float64 [draws], the same for the same seed.

    Raises:
        ConfigError: as `reach`, or fewer than one draw.
    """
    if draws < 1:
        raise ConfigError(f"{draws} draws of K; expected at least 1")
    return np.random.default_rng([seed]).uniform(*reach(ahead, behind), draws)
