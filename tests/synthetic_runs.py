"""Records of a comparison that never ran, with effects put in by hand."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from foresight.comparison.arms import ARMS
from foresight.comparison.results import Cell, CurvePoint, LastForecast, Measures, Record, environment
from foresight.comparison.statistics import log_loss_area
from foresight.series import Series

RETAINED = ("gender", "reverse")
ACCURACY = {"full": 0.9, "random": 0.5, "static": 0.7, "prior": 0.6, "reactive": 0.7, "foresight": 0.7, "oracle": 0.7}
RATES = (1e-3, 3e-3, 1e-2)
STEPS = 40


def series(seed: int = 0, layers: int = 3, heads: int = 4, blocks: int = 8) -> Series:
    """Scores of a small model's components over five snapshots."""
    rng = np.random.default_rng(seed)
    rows = [(layer, "head", i, 64) for layer in range(layers) for i in range(heads)]
    rows += [(layer, "mlp", i, 48) for layer in range(layers) for i in range(blocks)]
    layer, kind, index, vectors = (np.array(column) for column in zip(*rows, strict=True))
    values = np.exp(rng.normal(size=(len(rows), 1)) + 0.3 * rng.normal(size=(len(rows), 5)).cumsum(1))
    name = np.array([f"L{row[0]}.{row[1]}.{row[2]}" for row in rows])
    return Series(values, np.arange(0, STEPS + 1, 10), layer, kind, index, vectors, name)


def mask(values: np.ndarray, names: np.ndarray, k: int = 6) -> tuple[str, ...]:
    return tuple(names[np.argsort(-values)[:k]].tolist())


def measures(arm: str, task: str, accuracy: float, rng: np.random.Generator, scores: Series) -> Measures:
    points = tuple(
        CurvePoint(step, float(np.exp(-3 * accuracy * step / STEPS)), accuracy * step / STEPS)
        for step in range(0, STEPS + 1, 10)
    )
    last = mask(scores.values[:, -1], scores.name)
    first = mask(rng.random(len(scores)) if arm == "random" else scores.values[:, 0], scores.name)
    schedule = {"oracle": ((0, last),), "foresight": ((0, first), (20, mask(scores.values[:, 2], scores.name)))}
    return Measures(
        accuracy={task: accuracy, **{name: 0.95 - 0.2 * accuracy + 0.01 * rng.normal() for name in RETAINED}},
        curve=points,
        log_loss_area=log_loss_area([p.step for p in points], [p.loss for p in points]),
        overlap=1.0 if arm in ("full", "oracle") else len(set(first) & set(last)) / len(last),
        chance=1.0 if arm == "full" else 0.17,
        train_seconds=4.0 + rng.random(),
        scoring_seconds=1.0 if arm in ("foresight", "reactive", "static") else 0.0,
        peak_bytes=10_000_000 if arm == "full" else 5_000_000,
        trainable=800_000 if arm == "full" else 80_000,
        schedule=schedule.get(arm, ((0, first),)),
        realised=last if arm == "full" else None,
        forecast=LastForecast(20, STEPS, tuple(scores.values[:, 3].tolist())) if arm == "foresight" else None,
        notes={"foresight/skill": 0.1} if arm == "foresight" else {},
    )


def comparison(
    effects: Mapping[str, float] | None = None,
    tasks: int = 2,
    seeds: int = 2,
    noise: float = 0.01,
    fails: Mapping[str, str] | None = None,
) -> list[Record]:
    """Records of every arm on every task and seed.

    Args:
        effects: added to an arm's accuracy.
        noise: standard deviation of a run's accuracy; tasks differ by ten times as much, alike for all arms.
        fails: arm -> error that all its scored runs end with.
    """
    rng = np.random.default_rng(0)
    records = [
        _record(
            Cell("base", "base", ""), Measures({f"task{t}": 0.1 for t in range(tasks)} | dict.fromkeys(RETAINED, 0.95))
        )
    ]
    for name in ARMS:
        for i, rate in enumerate(RATES):
            for task in ("tune1",):
                area = Measures({task: 0.5}, log_loss_area=-1.0 - (i == 1) + 0.01 * rng.normal())
                records.append(_record(Cell("tune", name, task, learning_rate=rate), area))
    for t in range(tasks):
        difficulty, scores = 10 * noise * rng.normal(), series(t)
        for seed in range(1, seeds + 1):
            for name, arm in ARMS.items():
                for draw in range(arm.draws):
                    cell = Cell("score", name, f"task{t}", seed, draw, 3e-3, {"max_steps": STEPS})
                    accuracy = ACCURACY[name] + difficulty + noise * rng.normal() + (effects or {}).get(name, 0.0)
                    error = (fails or {}).get(name)
                    found = None if error else measures(name, f"task{t}", float(np.clip(accuracy, 0, 1)), rng, scores)
                    records.append(_record(cell, found, error))
    return records


def _record(cell: Cell, found: Measures | None, error: str | None = None) -> Record:
    return Record(cell.key(environment()), cell, environment(), found, error)
