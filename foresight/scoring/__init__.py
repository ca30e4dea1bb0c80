"""Scores: one number per component for how much it matters now. One scorer a file over one shared tap.

`make_scorer(name, **params).score(model, table, probe)` is the whole interface; `SCORERS` lists the names.
Scores never touch `.grad`, the training flags or the random state of the model's process.
"""

from . import (  # noqa: F401  (each registers its scorer)
    attribution,
    exact,
    gradient,
    gradient_activation,
    integrated_gradients,
    movement,
    utility,
    weight_gradient,
)
from .base import SCORERS, Scorer, Scores, make_scorer
from .calibration import calibrate
from .probes import ContrastProbe, Probe, TextProbe

__all__ = ["SCORERS", "ContrastProbe", "Probe", "Scorer", "Scores", "TextProbe", "calibrate", "make_scorer"]
