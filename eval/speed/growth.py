"""How the cost of a train step grows with the model and with the budget, as exponents of fitted power laws."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from .arms import ARMS, Arm, Place, bank
from .clock import Times, alternate, basis, exponent
from .shapes import Shape

SMALL = Shape(layers=4, width=256, mlp=704, heads=4, vocabulary=1024)
LAYERS, WIDTHS, BUDGETS = (2, 4, 8), (128, 256, 512), (0.02, 0.08, 0.32)


def growth(place: Place, rounds: int) -> dict:
    """Seconds of a step at 5 % over layers and width, and at other budgets; each axis with its exponent.

    An exponent of budget near 0 says that most of a step does not depend on the budget.
    """
    small = replace(place, shape=SMALL)
    axes: dict[str, dict[float, Arm]] = {
        "layers": {n: ARMS["bank_5pct"](replace(small, shape=replace(SMALL, layers=n))) for n in LAYERS},
        "width": {n: ARMS["bank_5pct"](replace(small, shape=_wide(n))) for n in WIDTHS},
        "budget": {n: bank(n)(small) for n in BUDGETS},
    }
    works = {f"{axis} {size}": arm.step for axis, arms in axes.items() for size, arm in arms.items()}
    times = alternate(works, rounds, place.device)
    return {axis: _law(axis, list(arms), times, basis(place.device)) for axis, arms in axes.items()}


def _wide(width: int) -> Shape:
    return replace(SMALL, width=width, mlp=width * SMALL.mlp // SMALL.width, heads=width // 64)


def _law(axis: str, sizes: list[float], times: dict[str, Times], clock: str) -> dict:
    seconds = [float(np.median(getattr(times[f"{axis} {size}"], clock))) for size in sizes]
    return {"sizes": sizes, "seconds": seconds, "exponent": exponent(sizes, seconds)}
