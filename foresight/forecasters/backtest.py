"""Forecasts of what has happened meanwhile: how well would a forecaster have done earlier in the same run?"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from sklearn.base import clone

from ..common.errors import CheckpointError, ConfigError
from ..trajectory.series import Series
from .base import Forecaster
from .features import canonical_order, some
from .registry import make_forecaster


def build(member: str | Forecaster) -> Forecaster:
    """A fresh forecaster of a name, or an unfitted copy of one. Raises ConfigError for anything else."""
    if isinstance(member, Forecaster):
        return clone(member)
    if isinstance(member, str):
        return make_forecaster(member)
    raise ConfigError(f"{member!r} is no forecaster; expected a name or a Forecaster")


def copy(forecaster: Forecaster) -> Forecaster:
    """An unfitted forecaster with the same parameters and pretraining."""
    twin = clone(forecaster)
    twin._load_pretrained(dict(forecaster._pretrained_arrays()))
    return twin


def thin(series: Series, most: int) -> Series:
    """At most `most` components of a series, in canonical order: enough to judge a forecaster."""
    return series.take(canonical_order(series)[some(len(series), most)])


def backtest(
    forecaster: Forecaster, series: Series, pairs: list[tuple[int, int]]
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(prediction, today's scores), each [n], for pairs of snapshots (cutoff, target); leaves `forecaster` alone."""
    twin, seen = copy(forecaster), -1
    for cutoff, target in sorted(pairs):
        if cutoff != seen:
            twin.fit(series.until(int(series.steps[cutoff])))
            seen = cutoff
        yield twin.predict(int(series.steps[target] - series.steps[cutoff])), series.values[:, cutoff]


def prefixed(parts: dict[str, dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """The arrays of several members in one dict, each key after its member's."""
    return {f"{name}.{key}": array for name, arrays in parts.items() for key, array in arrays.items()}


def load_members(members: dict[str, Forecaster], arrays: dict[str, np.ndarray]) -> None:
    """Inverse of `prefixed` for pretrained arrays: pop each member's, and let it check them."""
    for name, member in members.items():
        mine = {key: arrays.pop(key) for key in list(arrays) if key.startswith(f"{name}.")}
        left = {key.removeprefix(f"{name}."): array for key, array in mine.items()}
        member._load_pretrained(left)
        if left:
            raise CheckpointError(f"forecaster state has unknown arrays {sorted(left)!s:.500} of member {name}")
