"""Records of a comparison that never ran, with effects put in by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from foresight.common.intervals import log_loss_area
from foresight.studies.compare.arms import Arm
from foresight.studies.compare.results import Cell, CurvePoint, LastForecast, Measures, Record
from foresight.studies.compare.settings import CompareConfig
from foresight.studies.provenance import cell_key, environment
from foresight.trajectory.series import Series

RETAINED = ("arithmetic", "reverse")
TARGETS = tuple("gender ioi greater_than docstring openbookqa rte sst2 winogrande fever zsre sentiment".split())
ACCURACY = {"full": 0.9, "random": 0.5, "static": 0.7, "prior": 0.6, "reactive": 0.7, "foresight": 0.7, "oracle": 0.7}
RATES = (1e-3, 3e-3, 1e-2)
STEPS = 40
START = 4.0
"""Nats of target loss before training."""
PARAMETERS = 800_000


def settings(tasks: int = 2, **changes: Any) -> CompareConfig:
    """The settings under which `comparison` pretends to have run."""
    return CompareConfig(
        **{
            "target_tasks": list(names(tasks)),
            "tuning_tasks": ["boolean"],
            "retained_tasks": list(RETAINED),
            "learning_rates": list(RATES),
            "steps": STEPS,
            **changes,
        }
    )


def names(tasks: int) -> Sequence[str]:
    return TARGETS[:tasks]


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


def measures(arm: Arm, task: str, accuracy: float, rng: np.random.Generator, scores: Series, cost: float) -> Measures:
    """A run that ends at `accuracy`; it forgets in proportion to what it learns, `cost` nats in all."""
    points = []
    for step in range(0, STEPS + 1, 10):
        loss = START * float(np.exp(-3 * accuracy * step / STEPS))
        learned = np.log(START / loss) / 3
        points.append(CurvePoint(step, loss, accuracy * step / STEPS, 0.1 + cost * learned, 0.95 - 0.2 * learned))
    circuit = scores.values[:, -1] * np.exp(0.3 * rng.normal(size=len(scores)))
    last = mask(circuit, scores.name)
    first = mask(rng.random(len(scores)) if arm.name == "random" else scores.values[:, 0], scores.name)
    forecasts = arm.settings.get("policy") == "foresight"
    schedule = ((0, first), (20, mask(scores.values[:, 2], scores.name))) if forecasts else ((0, first),)
    share = 1 if arm.name == "full" else 0.1
    return Measures(
        accuracy={task: accuracy, **dict.fromkeys(RETAINED, points[-1].retained_accuracy)},
        loss={task: points[-1].loss, **dict.fromkeys(RETAINED, points[-1].retained_loss)},
        curve=tuple(points),
        log_loss_area=log_loss_area([p.step for p in points], [p.loss for p in points]),
        steps_to_target=0.65 * STEPS / accuracy if accuracy >= 0.65 else None,
        overlap=1.0 if arm.name == "full" or arm.hindsight else len(set(first) & set(last)) / len(last),
        newcomers=0.5,
        chance=1.0 if arm.name == "full" else 0.17,
        train_seconds=4.0 + rng.random(),
        scoring_seconds=0.0 if arm.name in ("full", "random", "prior") else 1.0,
        peak_bytes=int(5_000_000 + 5_000_000 * share),
        trainable=int(share * PARAMETERS),
        model_parameters=PARAMETERS,
        touched=int(share * PARAMETERS * (2 if forecasts else 1)),
        schedule=((0, last),) if arm.hindsight else schedule,
        realised=last if arm.name == "full" else None,
        forecast=LastForecast(20, STEPS, tuple(scores.values[:, 3].tolist())) if forecasts else None,
        notes={"foresight/skill": 0.1} if forecasts else {},
    )


def comparison(
    config: CompareConfig | None = None,
    effects: Mapping[str, float] | None = None,
    noise: float = 0.01,
    fails: Mapping[str, str] | None = None,
    costs: Mapping[str, float] | None = None,
) -> list[Record]:
    """Records of every arm on every task, base model and seed.

    Args:
        effects: added to an arm's accuracy.
        noise: standard deviation of a run's accuracy; tasks differ by ten times as much, alike for all arms.
        fails: arm -> error that all its scored runs end with.
        costs: arm -> nats of retained loss that it pays for learning everything, 0.5 by default.
    """
    config, rng, records = config or settings(), np.random.default_rng(0), []
    for model in config.models:
        before = {name: 0.1 for name in config.target_tasks} | dict.fromkeys(RETAINED, 0.95)
        records.append(record(Cell("base", "base", "", model), Measures(before, dict.fromkeys(before, START))))
    budgets = {name: [1.0] if arm.trains_everything else config.budgets for name, arm in config.chosen.items()}
    for name, arm in config.chosen.items():
        for budget in budgets[name]:
            for i, rate in enumerate(RATES):
                for memory in config.memories:
                    cell = Cell("tune", name, "boolean", budget=budget, memory=memory, learning_rate=rate)
                    area = -1.0 - (i == 1) + 0.01 * rng.normal()
                    records.append(record(cell, Measures({"boolean": 0.5}, log_loss_area=area), method=arm.method))
    for t, task in enumerate(config.target_tasks):
        difficulty, scores = 10 * noise * rng.normal(), series(t)
        for model in config.models:
            for seed in range(1, config.seeds + 1):
                for name, arm in config.chosen.items():
                    for budget in budgets[name]:
                        for draw in range(arm.draws):
                            accuracy = ACCURACY.get(name, 0.65) + difficulty + noise * rng.normal()
                            accuracy = float(np.clip(accuracy + (effects or {}).get(name, 0.0), 0.02, 1))
                            cell = Cell("score", name, task, model, seed, draw, budget, next(iter(config.memories)),
                                        RATES[1], arm.method, {"max_steps": STEPS})  # fmt: skip
                            cost = (costs or {}).get(name, 0.5)
                            error = (fails or {}).get(name)
                            found = None if error else measures(arm, task, accuracy, rng, scores, cost)
                            records.append(record(cell, found, error))
    return records


def record(cell: Cell, found: Measures | None, error: str | None = None, **changes: Any) -> Record:
    cell = replace(cell, **changes)
    return Record(cell_key(cell), cell, environment(), found, error)
