"""The runs of a comparison, in the order of their dependencies.

Full fine-tuning runs first, because the others depend on it: policies learn from its recorded runs on tasks that are
not scored; arms with hindsight know its run on the same task, seed and data order; and overlaps are measured against
that run. Every arm's learning rate and optimizer memory are chosen on the tuning tasks, from the same grid and by the
same rule, and a run on a tuning task learns only from the other recorded tasks. No arm without hindsight sees anything
of a scored task.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product
from pathlib import Path
from typing import Any

import torch

from ...training.checks import only_taken
from ..provenance import cell_key, digest
from ..runner import Runner
from .arms import Arm
from .part import Tuned, tune
from .results import Cell, Measures, Record, Stage
from .settings import CompareConfig

ALL = 1.0
"""The budget of arms that train everything, whatever the budgets of masks are."""

UTILITY = "full by utility"
"""The arm of full runs that record utility instead of a circuit."""

Goal = tuple[str, str, int]
"""(model, task, seed): what arms are paired over."""


class Plan:
    """The cells of a comparison.

    Attributes:
        tuned: (arm, budget) -> its chosen learning rate and memory, once the arm is tuned.
        inputs: path -> digest of the models, tasks and sources that are on disk.
    """

    def __init__(self, config: CompareConfig):
        assert isinstance(config.memories, dict) and isinstance(config.sources, dict)  # parsed by now
        self.config, self.memories, self.sources = config, config.memories, config.sources
        self.arms = config.chosen
        self.full = self.arms["full"]
        self.tuned: dict[tuple[str, float], Tuned] = {}
        named = {*config.models, *config.tasks, *config.retained(), *config.sources.values()}
        self.inputs = {name: digest(Path(name)) for name in named if Path(name).exists()}

    # -- goals ------------------------------------------------------------------------------------------------------

    def goals(self, stage: Stage) -> list[Goal]:
        """What the runs of a stage train on. Tasks that are not scored have seed 0."""
        config = self.config
        tasks, seeds = {
            "tune": (config.tuning_tasks, [0]),
            "track": (config.history_tasks, [0]),
            "score": (config.target_tasks, range(1, config.seeds + 1)),
        }[stage]
        return list(product(config.models, tasks, seeds))

    def budgets(self, arm: Arm) -> list[float]:
        """The budgets at which an arm runs."""
        return [ALL] if arm.trains_everything else list(self.config.budgets)

    @property
    def total(self) -> int:
        """Number of cells in the whole plan, if none fails."""
        tuning, scored, config = len(self.goals("tune")), len(self.goals("score")), self.config
        rates = len(config.learning_rates)
        count = len(config.models) + len(self.goals("track")) + (tuning + scored) * self._hindsight("utility")
        for arm in self.arms.values():
            tuned = tuning * rates * (1 if arm.memory else len(self.memories))
            count += len(self.budgets(arm)) * (tuned + scored * arm.draws * (rates if config.frontier else 1))
        return count

    # -- the order --------------------------------------------------------------------------------------------------

    def carry_out(self, runner: Runner[Cell, Measures]) -> list[Record]:
        """Run everything; return all records, those of failed runs included.

        Arms come in waves, each after those that it learns from, knows, or is sized by. While a wave is tuned, the one
        before is scored. Without a working setting of full fine-tuning nothing else runs.
        """
        arms = list(self.arms.values())
        sized = [arm for arm in arms if arm.sized_by is not None]
        later = [arm for arm in arms if (arm.learns or arm.hindsight is not None) and arm not in sized]
        first = [arm for arm in arms if arm not in (self.full, *later, *sized)]
        waves = {"full fine-tuning": [self.full], "first arms": first, "arms that learn": later, "last arms": sized}
        records, due = [], self._base()
        for name, wave in waves.items():
            records += runner.run([*due, *self._tuning(wave)], f"{name} tuned")
            for arm, budget in self._places(wave):
                own = ("tune", arm.name, budget)
                mine = [r for r in records if (r.cell.stage, r.cell.arm, r.cell.budget) == own]
                self.tuned[arm.name, budget] = tune(mine)
            if self.tuned["full", ALL].learning_rate is None:
                return records
            due = self._scored(wave) + (self._references() if wave == [self.full] else [])
        records += runner.run(due, "last arms scored")
        return list({record.key: record for record in records}.values())

    def _places(self, arms: Iterable[Arm]) -> list[tuple[Arm, float]]:
        return [(arm, budget) for arm in arms for budget in self.budgets(arm)]

    # -- cells ------------------------------------------------------------------------------------------------------

    def _base(self) -> list[Cell]:
        return [Cell("base", "base", "", model, data=self.data(None), inputs=self._inputs(model, None))
                for model in self.config.models]  # fmt: skip

    def _references(self) -> list[Cell]:
        """Full runs that are only learned from, and those that record utility if an arm with hindsight needs them."""
        known = [self._tuned_cell("track", self.full, ALL, goal) for goal in self.goals("track")]
        looked_into = [*self.goals("tune"), *self.goals("score")] if self._hindsight("utility") else []
        return [*known, *map(self._utility_run, looked_into)]

    def _utility_run(self, goal: Goal) -> Cell:
        arm = Arm(UTILITY, "", "", self.full.settings | {"scorer": "utility"})
        tuned = self.tuned["full", ALL]
        return self._cell("track", arm, ALL, goal, tuned.learning_rate, tuned.memory)

    def _tuning(self, wanted: Iterable[Arm]) -> list[Cell]:
        return [
            self._cell("tune", arm, budget, goal, rate, memory)
            for arm, budget in self._places(wanted)
            for memory in ([arm.memory] if arm.memory else self.memories)
            for rate in self.config.learning_rates
            for goal in self.goals("tune")
        ]

    def _scored(self, wanted: Iterable[Arm]) -> list[Cell]:
        """Scored runs at the arm's tuned settings; none for an arm without a working setting."""
        return [
            self._cell("score", arm, budget, goal, rate, tuned.memory, draw)
            for arm, budget in self._places(wanted)
            if (tuned := self.tuned[arm.name, budget]).learning_rate is not None
            for rate in (self.config.learning_rates if self.config.frontier else [tuned.learning_rate])
            for goal in self.goals("score")
            for draw in range(arm.draws)
        ]

    def _tuned_cell(self, stage: Stage, arm: Arm, budget: float, goal: Goal) -> Cell:
        tuned = self._chosen(arm, budget)
        return self._cell(stage, arm, budget, goal, tuned.learning_rate, tuned.memory)

    def _chosen(self, arm: Arm, budget: float) -> Tuned:
        return self.tuned[arm.name, ALL if arm.trains_everything else budget]

    def _cell(
        self, stage: Stage, arm: Arm, budget: float, goal: Goal, rate: float | None, memory: str | None, draw: int = 0
    ) -> Cell:
        assert rate is not None and memory is not None
        model, name, seed = goal
        budget = ALL if arm.trains_everything else budget
        return Cell(
            stage=stage,
            arm=arm.name,
            task=name,
            model=model,
            seed=seed,
            draw=draw,
            budget=budget,
            memory=memory,
            learning_rate=rate,
            method=arm.method,
            training=self.training(arm, budget, memory),
            data=self.data(name, retains=arm.retains, keep_delta=arm.name == "full" and self._hindsight("movement")),
            history=self._learned(goal) if arm.learns else (),
            sources={} if arm.name in ("full", UTILITY) else self._sources(arm, budget, goal),
            inputs=self._inputs(model, name),
        )

    def training(self, arm: Arm, budget: float, memory: str) -> dict[str, Any]:
        """The settings of a run: those shared by the study that the arm's policy takes, and the arm's own."""
        config = self.config
        assert isinstance(config.training, dict)
        shared: dict[str, Any] = {
            "max_steps": config.steps,
            "per_device_train_batch_size": config.batch_size,
            "use_cpu": not torch.accelerator.is_available(),
            "bf16": False,
            "gradient_checkpointing": False,
            "report_to": "none",
            "save_strategy": "no",
            "logging_strategy": "no",
            "disable_tqdm": True,
            **config.training,
            **self.memories[memory],
        }
        if arm.method != "mask":
            return shared | arm.settings
        names = ("remask_every", "probe_examples", "forecaster", "gate", "probe_every")
        masked: dict[str, Any] = {"budget": budget} | {name: getattr(config, name) for name in names}
        params = {"watch_steps": config.remask_every} | (arm.settings.get("policy_params") or {})
        return only_taken(shared | masked | arm.settings | {"policy_params": params})

    def data(self, name: str | None, **more: Any) -> dict[str, Any]:
        """What a run on a task, or the base model, is given and measured on."""
        config = self.config
        names = ("train_examples", "eval_examples", "evaluations", "probe_examples", "target_accuracy")
        found = {key: getattr(config, key) for key in names} | ({} if name else {"targets": config.target_tasks})
        sources = {task: self.sources[task] for task in self._measured(name) if task in self.sources}
        return {**found, "retained": config.retained(name), "sources": sources, "circuit": config.budgets[0],
                "cpu": not torch.accelerator.is_available(), **more}  # fmt: skip

    def _learned(self, goal: Goal) -> tuple[str, ...]:
        """Keys of the recorded full runs of this model on unscored tasks other than the goal's."""
        known = [*self.goals("tune"), *self.goals("track")]
        return tuple(self._key(self.full, ALL, other) for other in known if other[0] == goal[0] and other[1] != goal[1])

    def _sources(self, arm: Arm, budget: float, goal: Goal) -> dict[str, str]:
        sources = {"realised": self._key(self.full, ALL, goal)}
        if arm.hindsight is not None:
            utility = arm.hindsight == "utility"
            sources["oracle"] = cell_key(self._utility_run(goal)) if utility else sources["realised"]
        if arm.sized_by is not None:
            sources["touched"] = self._key(self.arms[arm.sized_by], budget, goal)
        return {role: key for role, key in sources.items() if key}

    def _key(self, arm: Arm, budget: float, goal: Goal) -> str:
        """The key of the tuned run on a goal; empty for an arm without a working setting."""
        if self._chosen(arm, budget).learning_rate is None:
            return ""
        stages: tuple[Stage, ...] = ("tune", "track", "score")
        stage = next(stage for stage in stages if goal in self.goals(stage))
        return cell_key(self._tuned_cell(stage, arm, budget, goal))

    def _hindsight(self, kind: str) -> bool:
        """Whether some arm knows this of a full run."""
        return any(arm.hindsight == kind for arm in self.arms.values())

    def _measured(self, name: str | None) -> list[str]:
        """The tasks that a run on a task, or the base model, is measured on."""
        return [*self.config.retained(name), *([name] if name else self.config.target_tasks)]

    def _inputs(self, model: str, name: str | None) -> dict[str, str]:
        """Digests of the files of a run's model and tasks, if they are on disk."""
        named = (model, *self._measured(name))
        paths = [path for one in named for path in (one, self.sources.get(one)) if path in self.inputs]
        return {str(path): self.inputs[str(path)] for path in paths}
