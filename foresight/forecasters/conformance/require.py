"""Assertions that rules share, and the global random states that forecasters must leave alone."""

from __future__ import annotations

import pickle
import random
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np


def that(condition: bool, message: str) -> None:
    """Raise AssertionError (under `python -O` too)."""
    if not condition:
        raise AssertionError(message)


def equal(one: np.ndarray, two: np.ndarray, message: str, tolerance: float = 0) -> None:
    """Raise AssertionError unless equal, or equal within a tolerance relative to each and to the largest value."""
    one, two = np.asarray(one, np.float64), np.asarray(two, np.float64)
    that(one.shape == two.shape, f"{message}: shapes {one.shape} and {two.shape}")
    far = np.abs(one - two) > tolerance * (np.abs(two) + 0.01 * np.abs(two).max(initial=0))
    if far.any():
        at = np.unravel_index(np.argmax(np.abs(one - two)), one.shape)
        raise AssertionError(f"{message}: {far.sum()} of {one.size} values differ, {one[at]:.9g} for {two[at]:.9g}")


def refused(call: Callable[..., Any], errors: tuple[type[Exception], ...], message: str, *arguments: Any) -> None:
    """Raise AssertionError unless `call(*arguments)` raises one of `errors`."""
    names = " or ".join(error.__name__ for error in errors)
    try:
        call(*arguments)
    except errors:
        return
    except Exception as error:  # any error but the promised one breaks the rule
        raise AssertionError(f"{message}: expected {names}, got {type(error).__name__}: {error}") from error
    raise AssertionError(f"{message}: expected {names}, got no error")


def scores(values: Any, shape: tuple[int, ...], message: str) -> None:
    """Raise AssertionError unless these are scores: float32, of that shape, finite, >= 0."""
    kind, found = getattr(values, "dtype", type(values).__name__), np.shape(values)
    that(kind == np.float32 and found == shape, f"{message}: {kind} {found}; expected float32 {shape}")
    that(bool(np.isfinite(values).all() and (values >= 0).all()), f"{message}: some are negative or not finite")


@contextmanager
def globally_seeded(seed: int) -> Iterator[Callable[[], list[str]]]:
    """Seed the global generators of Python, NumPy and, where it is loaded, torch, and restore them afterwards.

    Yields a function that names the libraries whose generator has changed meanwhile.
    """
    generators = _global_generators()
    before = {name: get() for name, (_, get, _) in generators.items()}
    for seed_one, _, _ in generators.values():
        seed_one(seed)
    seeded = {name: pickle.dumps(get()) for name, (_, get, _) in generators.items()}
    try:
        yield lambda: [name for name, (_, get, _) in generators.items() if pickle.dumps(get()) != seeded[name]]
    finally:
        for name, (_, _, restore) in generators.items():
            restore(before[name])


def _global_generators() -> dict[str, tuple[Callable[..., Any], ...]]:
    """Library -> how to seed its global generator, to get its state and to set it."""
    found: dict[str, tuple[Callable[..., Any], ...]] = {
        "Python": (random.seed, random.getstate, random.setstate),
        "NumPy": (np.random.seed, np.random.get_state, np.random.set_state),
    }
    if torch := sys.modules.get("torch"):
        restore = lambda state: torch.set_rng_state(torch.from_numpy(state))  # noqa: E731
        found["torch"] = (torch.manual_seed, lambda: torch.get_rng_state().numpy(), restore)
    return found
