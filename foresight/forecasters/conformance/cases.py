"""The series that rules are tried on, and the assertions that they share."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

import numpy as np

from ...trajectory.series import Series
from ..forecaster import Forecaster

N = 48
STEPS = np.cumsum([0, 10, 10, 25, 5, 10, 40, 10, 10, 10, 3, 17])
HORIZON = 30


def scores(n: int = N, t: int = len(STEPS), seed: int = 0) -> np.ndarray:
    """Scores float64 [n, t] whose logs wander and drift a little, each component at its own level."""
    rng = np.random.default_rng(seed)
    slope = rng.normal(0, 0.05, (n, 1)) * np.arange(t)
    return np.exp(rng.normal(0, 1, (n, 1)) + slope + np.cumsum(rng.normal(0, 0.05, (n, t)), 1))


def series_of(values: np.ndarray, steps: np.ndarray | None = None) -> Series:
    """A series of scores [n, t] over four layers, every third component a head; by default every ten steps."""
    i = np.arange(len(values))
    layer, kind = i * 4 // len(values), np.where(i % 3 == 0, "head", "mlp")
    name = [f"L{a}.{k}.{j}" for a, k, j in zip(layer, kind, i, strict=True)]
    steps = np.arange(values.shape[1]) * 10 if steps is None else steps
    return Series(values, steps, layer, kind, i, np.where(i % 3 == 0, 8, 4), np.array(name))


def irregular(seed: int = 0) -> Series:
    """Twelve snapshots at irregular steps."""
    return series_of(scores(seed=seed), STEPS)


def histories() -> list[Series]:
    """Two past runs, of other sizes than the series above."""
    return [series_of(scores(36, 9, 7)), series_of(scores(24, 11, 8))]


def ready(forecaster: Forecaster) -> Forecaster:
    """A copy that can be fitted: it keeps its pretraining, or gets some if it needs it and has none."""
    copy = deepcopy(forecaster)
    return copy.pretrain(histories()) if copy.needs_pretraining and not copy._pretrained_arrays() else copy


def require(condition: bool, message: str) -> None:
    """Raise AssertionError (under `python -O` too)."""
    if not condition:
        raise AssertionError(message)


def require_equal(one: np.ndarray, two: np.ndarray, message: str, tolerance: float = 0) -> None:
    """Raise AssertionError unless equal, or equal within a tolerance relative to each and to the largest value."""
    one, two = np.asarray(one, np.float64), np.asarray(two, np.float64)
    require(one.shape == two.shape, f"{message}: shapes {one.shape} and {two.shape}")
    far = np.abs(one - two) > tolerance * (np.abs(two) + 0.01 * np.abs(two).max(initial=0))
    if far.any():
        at = np.unravel_index(np.argmax(np.abs(one - two)), one.shape)
        raise AssertionError(f"{message}: {far.sum()} of {one.size} values differ, {one[at]:.9g} for {two[at]:.9g}")


def require_refused(
    call: Callable[..., Any], errors: tuple[type[Exception], ...], message: str, *arguments: Any
) -> None:
    """Raise AssertionError unless `call(*arguments)` raises one of `errors`."""
    names = " or ".join(error.__name__ for error in errors)
    try:
        call(*arguments)
    except errors:
        return
    except Exception as error:  # any error but the promised one breaks the rule
        raise AssertionError(f"{message}: expected {names}, got {type(error).__name__}: {error}") from error
    raise AssertionError(f"{message}: expected {names}, got no error")


def require_scores(values: Any, shape: tuple[int, ...], message: str) -> None:
    """Raise AssertionError unless these are scores: float32, of that shape, finite, >= 0."""
    kind, found = getattr(values, "dtype", type(values).__name__), np.shape(values)
    require(kind == np.float32 and found == shape, f"{message}: {kind} {found}; expected float32 {shape}")
    require(bool(np.isfinite(values).all() and (values >= 0).all()), f"{message}: some are negative or not finite")


def seed_globally(seed: int) -> None:
    """Seed the global random states of Python, NumPy and, where it is loaded, torch."""
    random.seed(seed)
    np.random.seed(seed)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(seed)


def global_random_states() -> dict[str, Any]:
    """The global random states by library, to compare."""
    twister: Any = np.random.get_state(legacy=False)
    states: dict[str, Any] = {"Python": random.getstate()}
    states["NumPy"] = {**twister, "state": {key: np.asarray(part).tobytes() for key, part in twister["state"].items()}}
    if "torch" in sys.modules:
        states["torch"] = sys.modules["torch"].get_rng_state().numpy().tobytes()
    return states


@contextmanager
def global_random_states_restored() -> Iterator[None]:
    """Restore the global random states afterwards."""
    python, numpy_state, torch = random.getstate(), np.random.get_state(), sys.modules.get("torch")
    torch_state = torch.get_rng_state() if torch else None
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy_state)
        if torch:
            torch.set_rng_state(torch_state)
