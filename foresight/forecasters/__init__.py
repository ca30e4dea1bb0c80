"""Forecasters: which components will be critical some steps ahead, from the scores so far. One forecaster a file.

`make_forecaster(name, **params)` builds one; `fit(series)`, then `predict(horizon)`.
"""

from .base import Forecaster
from .registry import forecaster_names, make_forecaster, register

__all__ = ["Forecaster", "forecaster_names", "make_forecaster", "register"]
