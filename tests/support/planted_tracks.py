"""Tracks whose movement is known: samples around score profiles that the caller sets."""

from __future__ import annotations

import numpy as np

from foresight.studies.track.tables import Track
from support.planted import make_table

TABLE = make_table(layers=4, heads=8, blocks=8)
HEADS, MLPS = TABLE.kind == "head", TABLE.kind == "mlp"
K = 8


def profile(layer: int) -> np.ndarray:
    """Scores [n] of a circuit whose two heads and two MLP blocks of a layer matter most, and of two layers on less."""
    strength = {0: 4.0, 1: 2.0}
    scores = np.full(len(TABLE), 0.2)
    for i, component in enumerate(TABLE):
        if component.index < 2:
            scores[i] += strength.get(component.layer - layer, 0.0)
    return scores


def track(profiles, seed=0, noise=0.3, rows=24, fresh=True, task="ioi", strategy="free") -> Track:
    """A run whose mean scores at each snapshot are `profiles`; probe examples scatter around them.

    Errors are drawn anew at every snapshot, or (fresh=False) are the same at all.
    """
    rng = np.random.default_rng(seed)
    same = rng.normal(0, noise, (rows, len(TABLE)))
    samples = [p + (rng.normal(0, noise, (rows, len(TABLE))) if fresh else same) for p in profiles]
    labels = {"task": task, "strategy": strategy, "seed": seed, "circuit_of": task, "scorer": "attribution"}
    steps = [10 * i for i in range(len(profiles))]
    return Track(labels, steps, np.stack(samples), K, TABLE.layer, TABLE.kind, TABLE.name)
