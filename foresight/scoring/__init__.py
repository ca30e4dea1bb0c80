"""Scores: one number per component that says how much it matters now.

`make_scorer(name, **params).score(model, table, probe)` is the whole interface. A scorer leaves `.grad`, the modules'
training flags and the process's random state as it found them. Importing this package imports neither torch nor any
scorer.
"""

from __future__ import annotations

import inspect
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

from ..common.errors import known_params, one_of

if TYPE_CHECKING:
    from .scorer import Scorer


class Listed(NamedTuple):
    """Where a scorer is defined."""

    module: str
    cls: str
    reads_data: bool = True
    """Whether its scores depend on the probe at all."""


SCORERS = {
    "attribution": Listed("attribution", "Attribution"),
    "attribution_abs": Listed("attribution", "AbsoluteAttribution"),
    "exact": Listed("exact", "Exact"),
    "gradient": Listed("gradient", "Gradient"),
    "gradient_local": Listed("gradient", "LocalGradient"),
    "gradient_activation": Listed("attribution", "GradientActivation"),
    "attribution_ig": Listed("attribution", "IntegratedGradients"),
    "movement": Listed("movement", "Movement", reads_data=False),
    "step_attribution": Listed("attribution", "StepAttribution"),
    "utility": Listed("gradient", "Utility"),
    "weight_gradient": Listed("gradient", "WeightGradient"),
}
"""Every scorer; a new one needs a row here."""


def make_scorer(name: str, **params: Any) -> Scorer:
    """Build a scorer.

    Raises:
        UnknownNameError: no scorer has that name; the message offers the closest.
        ConfigError: a parameter that the scorer does not have, or a value that it cannot use.
    """
    listed = SCORERS[one_of("scorer", name, SCORERS)]
    cls = getattr(import_module(f".{listed.module}", __package__), listed.cls)
    known_params("scorer", name, params, inspect.signature(cls).parameters)
    return cls(**params)
