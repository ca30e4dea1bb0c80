"""Scores: one number per component that says how much it matters now.

`make_scorer(name, **params).score(model, table, probe)` is the whole interface. A scorer leaves `.grad`, the modules'
training flags and the process's random state as it found them. Importing this package imports neither torch nor any
scorer.
"""

from .scorer_names import SCORERS, make_scorer, needs_pairs

__all__ = ["SCORERS", "make_scorer", "needs_pairs"]
