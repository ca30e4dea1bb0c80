"""The default forecaster, with what it has learned from the shipped corpus."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .base import Forecaster
from .registry import make_forecaster

DEFAULT = "stacking"
"""Weighs forecasts by their proven skill, and is persistence while none has any: what the benchmark on the shipped
corpus recommends, where nothing beats persistence (README)."""
SHIPPED = Path(__file__).parents[1] / "model" / "shipped"


def state_file(name: str) -> str:
    """What the shipped state of a forecaster is called; `foresight.studies.bench.ship` makes it."""
    return f"{name}.safetensors"


def experienced(name: str, **params: Any) -> Forecaster:
    """`make_forecaster`, but `DEFAULT` as it is by default has the state that ships, checked like any other."""
    forecaster = make_forecaster(name, **params)
    return forecaster if name != DEFAULT or params else forecaster.load(SHIPPED / state_file(DEFAULT))
