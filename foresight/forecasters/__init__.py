"""Forecasters: which components will be critical some steps ahead, from the scores so far. One forecaster a file.

`make_forecaster(name, **params)` builds one; `fit(series)`, then `predict(horizon)`. To write one, start from a file of
the folder `templates`; `check_forecaster` in checks.py tells what it breaks.
"""

from .base import Forecaster
from .registry import forecaster_names, make_forecaster, register
from .wrap import from_function, from_regressor

__all__ = ["Forecaster", "forecaster_names", "from_function", "from_regressor", "make_forecaster", "register"]
