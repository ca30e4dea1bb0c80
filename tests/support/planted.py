"""Component tables without a model, and series whose future is known."""

from __future__ import annotations

import numpy as np

from foresight.model.components import Component, ComponentTable, Slice, Target
from foresight.trajectory.series import Series


def make_table(layers: int = 3, heads: int = 4, blocks: int = 5, d_model: int = 8, parameters: int = 10_000):
    """Heads of 4 vectors (rows of q) and MLP blocks of 3 (columns of down) in every layer."""
    components, targets, offset = [], [], 0
    for layer in range(layers):
        for kind, n, size, axis in (("head", heads, 4, "row"), ("mlp", blocks, 3, "column")):
            module = f"{layer}.{kind}"
            for i in range(n):
                cut = (Slice(module, axis, i * size, (i + 1) * size),)
                components.append(Component(f"L{layer}.{kind}.{i}", layer, kind, i, cut, ()))
            targets.append(Target(module, axis, n * size, offset))
            offset += n * size
    return ComponentTable(components, targets, d_model, parameters)


def make_series(values: np.ndarray, steps=None, layers: int = 4) -> Series:
    """A series over len(values) components, spread evenly over the layers, every third a head."""
    values = np.asarray(values)
    i = np.arange(len(values))
    layer = i * layers // len(values)
    kind = np.where(i % 3 == 0, "head", "mlp")
    name = [f"L{a}.{k}.{j}" for a, k, j in zip(layer, kind, i, strict=True)]
    steps = np.arange(values.shape[1]) * 10 if steps is None else steps
    return Series(values, steps, layer, kind, i, np.full(len(i), 4), np.array(name))


def series_of(table: ComponentTable, values: np.ndarray, steps=None) -> Series:
    """A series over the components of a table."""
    steps = np.arange(values.shape[1]) * 10 if steps is None else steps
    return Series(values, steps, table.layer, table.kind, table.index, table.vectors, table.name)


def random_walk(n: int = 200, t: int = 20, seed: int = 0, size: float = 0.1) -> np.ndarray:
    """Scores [n, t] whose logs are independent random walks: no past says anything of the future."""
    rng = np.random.default_rng(seed)
    return np.exp(rng.normal(0, 1, (n, 1)) + np.cumsum(rng.normal(0, size, (n, t)), 1))


def trends(n: int = 200, t: int = 20, seed: int = 0, noise: float = 0.01) -> np.ndarray:
    """Scores [n, t] that each follow a straight line of its own, with little noise."""
    rng = np.random.default_rng(seed)
    start, slope = rng.uniform(1, 2, (n, 1)), rng.uniform(-0.05, 0.05, (n, 1))
    return start + slope * np.arange(t) + rng.normal(0, noise, (n, t))
