"""How costs grow with the model, the budget, what is forecast and the number of processes: exponents of power laws."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import count
from typing import Any

from foresight.forecasters import DEFAULT, experienced
from foresight.model.components import component_table
from foresight.scoring import make_scorer

from ..forecast import series
from .arms import ARMS, Arm, Place, bank, random_mask
from .clock import alternate, basis, exponent, spread
from .scoring import contrast
from .shapes import Shape
from .zero import in_a_group

SMALL = Shape(layers=4, width=256, mlp=704, heads=4, kv_heads=4, vocabulary=1024)
LAYERS, WIDTHS, BUDGETS = (2, 4, 8, 16), (128, 256, 512), (0.02, 0.08, 0.32)
COMPONENTS, SNAPSHOTS = (12_500, 25_000, 50_000, 100_000), (25, 50, 100)
RANKS = (1, 2, 4)
HORIZON = 50

Law = dict[str, Any]
"""Sizes, seconds as medians and as ranges, and the exponent of the power law through the medians."""


def growth(place: Place, rounds: int) -> dict[str, dict[str, Law]]:
    """Cost -> axis -> law: "step" and "remask" at 5 % over layers, width and budget, "scoring" by attribution over
    layers and width, "forecast" over components (50 snapshots) and over snapshots (25,000 components), and a step and
    re-mask under ZeRO 2 and 3 over the processes of a group on the CPU.

    An exponent of budget near 0 says that most of a step does not depend on the budget. The exponent over processes is
    of CPU time in each of them, where each has as many rows: 0 says that a process more costs the others nothing but
    waiting, and that is not in it, as it depends on how many cores there are.
    """
    found = {**of_model(place, rounds), "forecast": of_forecast(rounds)}
    groups = {n: in_a_group(SMALL, n, rounds) for n in RANKS}
    for stage in groups[RANKS[0]]:
        found |= {
            f"{work}_{stage}": {"ranks": law({n: group[stage][work]["cpu_seconds"] for n, group in groups.items()})}
            for work in ("step", "remask")
        }
    return found


def of_model(place: Place, rounds: int) -> dict[str, dict[str, Law]]:
    """Of a step, a re-mask and a scoring pass."""
    small = replace(place, shape=SMALL)
    shapes = {"layers": {n: replace(SMALL, layers=n) for n in LAYERS}, "width": {n: _wide(n) for n in WIDTHS}}
    arms: dict[str, dict[Any, Arm]] = {
        axis: {n: ARMS["bank_5pct"](replace(place, shape=shape)) for n, shape in sizes.items()}
        for axis, sizes in shapes.items()
    }
    arms["budget"] = {n: bank(n)(small) for n in BUDGETS}
    works: dict[tuple[str, str, Any], Callable[[], Any]] = {}
    for axis, sizes in arms.items():
        for n, arm in sizes.items():
            works["step", axis, n], works["remask", axis, n] = arm.step, _remask(arm)
    for axis, named in shapes.items():
        for n, shape in named.items():
            works["scoring", axis, n] = _score(replace(place, shape=shape))
    return _laws(works, rounds, place.device)


def of_forecast(rounds: int) -> dict[str, Law]:
    """Of the default forecaster's fit and prediction, in this process."""
    middle, short = COMPONENTS[1], SNAPSHOTS[1]
    cases = [("components", n, n, short) for n in COMPONENTS] + [("snapshots", t, middle, t) for t in SNAPSHOTS]

    def work(n: int, t: int) -> Callable[[], Any]:
        seen = series(n, t)
        return lambda: experienced(DEFAULT).fit(seen).predict(HORIZON)

    works = {("forecast", axis, size): work(n, t) for axis, size, n, t in cases}
    return _laws(works, rounds, "cpu")["forecast"]


def law(seconds: Mapping[Any, Mapping[str, float]]) -> Law:
    """Of medians with ranges by size."""
    medians = [one["median"] for one in seconds.values()]
    ranges = [[one["low"], one["high"]] for one in seconds.values()]
    return {"sizes": list(seconds), "seconds": medians, "ranges": ranges, "exponent": exponent(list(seconds), medians)}


def _laws(works: Mapping[tuple[str, str, Any], Callable], rounds: int, device: str) -> dict[str, dict[str, Law]]:
    times = alternate(works, rounds, device)
    seconds: dict[str, dict[str, dict[Any, dict]]] = {}
    for cost, axis, size in works:
        taken = getattr(times[cost, axis, size], basis(device))
        seconds.setdefault(cost, {}).setdefault(axis, {})[size] = spread(taken)
    return {cost: {axis: law(one) for axis, one in axes.items()} for cost, axes in seconds.items()}


def _remask(arm: Arm) -> Callable[[], Any]:
    held, seeds = arm.bank, count(1)
    assert held is not None
    return lambda: held.remask(random_mask(held, next(seeds)), arm.optimizer)


def _score(place: Place) -> Callable[[], Any]:
    model = place.model().requires_grad_(False)
    table, probe, scorer = component_table(model), contrast(place), make_scorer("attribution")
    return lambda: scorer.score(model, table, probe)


def _wide(width: int) -> Shape:
    heads = width // 64
    return replace(SMALL, width=width, mlp=width * SMALL.mlp // SMALL.width, heads=heads, kv_heads=heads)
