"""Series of scores whose future is known by construction."""

import numpy as np

from foresight.trajectory.series import Series

COMPONENTS, SNAPSHOTS, EVERY = 60, 21, 5


def components(n: int = COMPONENTS) -> dict[str, np.ndarray]:
    """Metadata: three layers, heads and MLP blocks by turns."""
    index = np.arange(n)
    layer, kind = index % 3, np.where(index % 2, "head", "mlp")
    name = np.array([f"L{where}.{what}.{i}" for where, what, i in zip(layer, kind, index, strict=True)])
    return {"layer": layer, "kind": kind, "index": index, "vectors": np.full(n, 4), "name": name}


def series(change: str, seed=0, noise: float = 0.02, noise_seed=None) -> Series:
    """Scores of 60 components at 21 snapshots, 5 steps apart.

    change: "relay": log scores are straight lines that overtake each other, so that the circuit changes steadily and
    foreseeably; "walk": they walk at random, so that the past says nothing of the next step; "still": they stay.
    Noise comes on top; series that differ in `noise_seed` alone are twins.
    """
    rng = np.random.default_rng(seed)
    shape = (COMPONENTS, SNAPSHOTS)
    start, time = rng.normal(size=(COMPONENTS, 1)), np.arange(SNAPSHOTS)
    peak = rng.permutation(np.linspace(-10, 30, COMPONENTS))[:, None]  # tangents of a parabola: nearest is highest
    path = {
        "relay": 0.02 * (2 * peak * time - peak**2),
        "walk": start + 0.4 * rng.normal(size=shape).cumsum(1),
        "still": start + np.zeros(shape),
    }[change]
    own = np.random.default_rng(seed if noise_seed is None else noise_seed).normal(size=shape)
    return Series(np.exp(path + noise * own), np.arange(SNAPSHOTS) * EVERY, **components())
