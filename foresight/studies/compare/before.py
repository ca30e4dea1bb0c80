"""What a comparison needs, looked at before its first run: its models, all tasks' rows, and all arms' settings."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import product
from pathlib import Path

from trl import SFTConfig

from ...common.errors import ConfigError, ForesightError
from ...model.loading import load_meta_model
from ...model.model_config import ModelConfig
from .curve import held_out, tokenizer_of
from .plan import ALL, Plan
from .results import Cell
from .rows import contrast_rows, retained_rows, train_rows
from .trial import settings_of


def check(plan: Plan) -> None:
    """Raise ConfigError, naming the model, task or arm, for anything that would fail in every one of its runs."""
    config = plan.config
    for model in config.models:
        with _about(f"model {model}"):
            tokenizer_of(model)
            load_meta_model(ModelConfig.of(model))
    for model, task in product(config.models, dict.fromkeys(config.tasks)):
        with _about(f"task {task}"):
            cell = Cell("score", "full", task, model, data=plan.data(task, retains=False))
            train_rows(cell)
            contrast_rows(cell)
            for name in (task, *cell.data["retained"]):
                held_out(model, name, cell.data["sources"].get(name), cell.data["eval_examples"])
    if any(arm.retains for arm in plan.arms.values()):
        for model, task in product(config.models, config.target_tasks):
            with _about(f"tasks that are retained beside {task}"):
                retained_rows(Cell("score", "full", task, model, data=plan.data(task, retains=True)))
    for arm, memory in product(plan.arms.values(), plan.memories):
        with _about(f"arm {arm.name}"):
            budget = ALL if arm.trains_everything else config.budgets[0]
            cell = Cell("score", arm.name, "", method=arm.method, training=plan.training(arm, budget, memory))
            if arm.method == "mask":
                sources = {"oracle": "recorded"} if arm.hindsight else {}
                settings_of(replace(cell, sources=sources), Path("runs/checked"))
            else:
                given = {name: value for name, value in cell.training.items() if name != "restart_every"}
                SFTConfig(output_dir="checked", **given)


@contextmanager
def _about(what: str) -> Iterator[None]:
    """Name what an error is about. TRL raises ValueError and TypeError for settings that it refuses."""
    try:
        yield
    except (ForesightError, ValueError, TypeError) as error:
        raise ConfigError(f"{what}: {error}; nothing has been run") from error
