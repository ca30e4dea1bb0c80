"""`CompareConfig`: what `foresight compare` runs. The defaults are recipes/compare/demo.yaml."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from ...common.errors import BudgetError, ConfigError, mapping, one_of
from ...common.setting import setting
from ...model.shipped import SHIPPED, card
from ...tasks import DATA_TASKS, TASKS
from .arms import Arm, arms
from .measures import MEASURES, Measure

MEMORY_FIELDS = ("restart_every", "adam_beta1", "adam_beta2")
"""What an optimizer memory consists of: `ForesightConfig` fields that hold for adapters as well."""


@dataclass(frozen=True)
class CompareConfig:
    """Settings of a comparison: arms x tasks x seeds x base models x budgets.

    A task is the name of one that foresight knows, or a JSONL file or folder (see `foresight.tasks.own`).

    Raises:
        ConfigError: names the setting, its value and what was expected.
    """

    models: list[str] = setting(
        [SHIPPED], f"Base models: folders or Hub names; {SHIPPED} is the one that comes with foresight."
    )
    target_tasks: list[str] = setting(
        ["gender", "ioi", "second", "order"],
        "Tasks that are trained on and scored: names, or JSONL files or folders of your own.",
    )
    tuning_tasks: list[str] = setting(
        ["boolean"], "Unscored tasks on which every arm's learning rate and optimizer memory are chosen."
    )
    history_tasks: list[str] = setting(
        ["induction"],
        "Unscored tasks whose recorded runs, with those of the tuning tasks, are what policies learn from.",
    )
    retained_tasks: list[str] | None = setting(
        None,
        "Tasks that should not be forgotten; by default those that the shipped model does well, if it is the base "
        "model, else none. For each scored task the others are measured.",
    )
    sources: dict[str, str] | str | None = setting(
        None, "Where the data of a task is if not on the Hub: task to file or folder (JSON in a flag)."
    )
    arms: list[Any] = setting(
        ["full", "random", "static", "prior", "reactive", "foresight", "oracle"],
        "What is compared: names, or mappings with name, like, and label, memory, draws, settings. static:SCORER, "
        "reactive:STEPS and foresight:FORECASTER are arms as well.",
    )
    budgets: list[float] = setting(
        [0.1], "Shares of all model parameters that may be trained at a time; the verdict is about the first."
    )
    seeds: int = setting(2, "Repetitions per scored task, with other data and data order.")
    learning_rates: list[float] = setting([5e-4, 1.5e-3, 5e-3], "Learning rates that every arm is tuned over.")
    memories: dict[str, Any] | str | None = setting(
        None,
        f"Optimizer memories that every arm is tuned over: a name to settings ({', '.join(MEMORY_FIELDS)}; JSON in a "
        "flag). By default one, which restarts Adam's moments every remask_every steps.",
    )
    frontier: bool = setting(
        False,
        "Score every arm at all learning rates, not only at the tuned one: forgetting is then compared at equal target "
        "loss over rates and steps, otherwise over steps alone.",
    )
    primary_arm: str = setting("foresight", "The arm that the comparison is about.")
    primary_against: list[str] = setting(
        ["static", "prior", "reactive", "smoothed"],
        "The primary arm is judged against the best of these arms; those that are not compared are left out.",
    )
    primary_measure: str = setting("log_loss_area", f"The measure of the primary contrast: {', '.join(MEASURES)}.")
    target_accuracy: float = setting(0.8, "Held-out accuracy whose first step is the `steps to target`.")
    steps: int = setting(48, "Optimizer steps of every run, including those that watch before the first mask.")
    batch_size: int = setting(24, "Examples per optimizer step.")
    train_examples: int = setting(800, "Distinct training examples of a task.")
    remask_every: int = setting(16, "Steps between re-masks; forecasts begin at the first.")
    probe_every: int = setting(8, "Steps between snapshots of the scores.")
    probe_examples: int = setting(32, "Contrast pairs or examples in a snapshot.")
    forecaster: str = setting("ridge", "Forecaster of the foresight arm: a registered name, or module:Class.")
    gate: bool = setting(
        False,
        "Let the foresight arm forecast only where forecasts have proved themselves. By default the forecast itself is "
        "compared, not the choice between forecasting and not.",
    )
    training: dict[str, Any] | str | None = setting(
        None, "More settings of every run: SFTConfig fields such as bf16 or max_length (JSON in a flag)."
    )
    evaluations: int = setting(4, "Held-out evaluations per run, after the one at step 0.")
    eval_examples: int = setting(40, "Held-out examples per task.")
    workers: int = setting(2, "Processes; on a CPU each computes on one thread.")

    def __post_init__(self):
        for name in ("memories", "sources", "training"):
            object.__setattr__(self, name, mapping(name, getattr(self, name), "a mapping, or JSON in a flag") or {})
        if not self.memories:
            object.__setattr__(self, "memories", {"restarts": {"restart_every": self.remask_every}})
        for name in ("models", "target_tasks", "tuning_tasks", "learning_rates", "arms", "budgets"):
            if not getattr(self, name):
                raise ConfigError(f"{name} is empty; expected at least one entry")
            _refuse_repeated(name, [str(entry) for entry in getattr(self, name)])
        _refuse_repeated("target_tasks, tuning_tasks and history_tasks", self.tasks)
        for name in ("seeds", "steps", "evaluations", "workers", "batch_size", "remask_every", "probe_every"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; expected at least 1")
        for budget in self.budgets:
            if not 0 < budget <= 1:
                raise BudgetError(f"budget {budget}: expected a share of all model parameters in (0, 1]")
        for name in (*self.tasks, *self.retained()):
            if not Path(name).exists():
                one_of("task, file or folder", name, (*TASKS, *DATA_TASKS))
        assert isinstance(self.memories, dict)
        for name, settings in self.memories.items():
            for key in mapping(f"memory {name!r}", settings, "restart_every: 20") or {}:
                one_of(f"setting of memory {name!r}", key, MEMORY_FIELDS)
        self._check_arms()

    def _check_arms(self) -> None:
        known = self.chosen
        for arm in known.values():
            if arm.memory is not None:
                one_of(f"memory of arm {arm.name!r}", arm.memory, self.memories or {})
            if arm.sized_by is not None and arm.sized_by not in known:
                raise ConfigError(f"arm {arm.name!r} is as large as arm {arm.sized_by!r} gets: add that to arms")
            if arm.retains and not self.retained():
                raise ConfigError(f"arm {arm.name!r} needs retained_tasks, and there are none; name some, or remove it")
        one_of("primary_arm", self.primary_arm, known)
        one_of("primary_measure", self.primary_measure, MEASURES)
        if not self.against:
            among = f"({', '.join(self.primary_against)}) is among the arms ({', '.join(known)})"
            raise ConfigError(f"none of primary_against {among}; the primary contrast needs at least one")

    @cached_property
    def chosen(self) -> dict[str, Arm]:
        """The arms by name, `full` first: it always runs, because hindsight and history come from it."""
        return arms(self.arms if "full" in self.arms else ["full", *self.arms])

    @property
    def against(self) -> list[str]:
        """Those of `primary_against` that are compared."""
        return [name for name in self.primary_against if name in self.chosen and name != self.primary_arm]

    @property
    def measure(self) -> Measure:
        """The primary measure."""
        return MEASURES[self.primary_measure]

    @property
    def tasks(self) -> list[str]:
        """Every task that some run trains on."""
        return [*self.target_tasks, *self.tuning_tasks, *self.history_tasks]

    def retained(self, task: str | None = None) -> list[str]:
        """The retained tasks, without `task`."""
        found = self.retained_tasks
        if found is None:
            known = card()["retained"] if SHIPPED in self.models else []
            found = [name for name in known if name not in self.tasks]
        return [name for name in found if name != task]

    def quick(self) -> CompareConfig:
        """The same flow in under a minute: one task, one rate, few steps and examples. Its numbers mean nothing."""
        return replace(
            self,
            target_tasks=self.target_tasks[:1],
            learning_rates=self.learning_rates[:1],
            seeds=1,
            steps=12,
            remask_every=4,
            probe_every=4,
            probe_examples=16,
            train_examples=96,
            evaluations=2,
        )


def _refuse_repeated(what: str, names: Sequence[str]) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ConfigError(f"{what}: {twice} named twice; expected each once")
