"""The demo: track, forecast, train every arm at one budget and equal tuning, compare.

Full fine-tuning of unscored tasks is recorded: that is what `prior` and the forecaster learn from. On some of them, the
tuning tasks, every arm's learning rate is chosen, from the same grid and by the same rule; a run on one learns from the
other recorded tasks only. Then all arms train on the scored tasks, of which nothing reaches `prior` or `foresight`.
The oracle alone sees the recorded full run of its own task, seed and data order.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from ..embedded import card
from ..errors import ConfigError, DataError
from ..files import write_json
from .arms import ARMS, Arm, arms
from .results import SCHEMA, Cell, Measures, Record, Stage, environment, read_record
from .runner import RESULT, Runner
from .summary import Summary, summarise
from .tuning import tune

RESULTS = "results.json"
RUNS = "runs"


@dataclass(frozen=True)
class DemoConfig:
    """Settings of `foresight demo`; the defaults are recipes/demo.yaml.

    Raises:
        ConfigError: tasks that are scored and tuned on at once, or too few of anything.
    """

    target_tasks: list[str] = field(
        default_factory=lambda: ["gender", "ioi"],
        metadata={"help": "Tasks that are trained on and scored."},
    )
    tuning_tasks: list[str] = field(
        default_factory=lambda: ["boolean"],
        metadata={"help": "Unscored tasks on which the learning rate of every arm is chosen."},
    )
    history_tasks: list[str] = field(
        default_factory=lambda: ["induction"],
        metadata={"help": "Unscored tasks whose recorded runs, with those of the tuning tasks, are learned from."},
    )
    arms: list[str] = field(default_factory=lambda: list(ARMS), metadata={"help": "Arms to compare."})
    seeds: int = field(default=2, metadata={"help": "Repetitions per scored task, with other data and data order."})
    budget: float = field(default=0.1, metadata={"help": "Share of all model parameters that a mask may train."})
    learning_rates: list[float] = field(
        default_factory=lambda: [5e-4, 1.5e-3, 5e-3], metadata={"help": "Learning rates that every arm is tuned over."}
    )
    steps: int = field(default=80, metadata={"help": "Optimizer steps of every run."})
    batch_size: int = field(default=24, metadata={"help": "Examples per optimizer step."})
    train_examples: int = field(default=800, metadata={"help": "Distinct training examples of a task."})
    remask_every: int = field(
        default=20,
        metadata={
            "help": "Steps between re-masks; every arm restarts its Adam moments then, and the forecast begins at the "
            "first."
        },
    )
    probe_every: int = field(default=10, metadata={"help": "Steps between snapshots of the scores."})
    probe_examples: int = field(default=32, metadata={"help": "Contrast pairs in a snapshot."})
    forecaster: str = field(
        default="ridge", metadata={"help": "Forecaster of the foresight arm: a registered name, or module:Class."}
    )
    evaluations: int = field(default=5, metadata={"help": "Held-out evaluations per run, after the one at step 0."})
    eval_examples: int = field(default=100, metadata={"help": "Held-out examples per task."})
    workers: int = field(default=2, metadata={"help": "Processes; each computes on one thread."})

    def __post_init__(self):
        twice = sorted({name for name in self.tasks if self.tasks.count(name) > 1})
        if twice:
            raise ConfigError(f"tasks {twice} are named twice; a task is scored, tuned on, or in the history, only one")
        for name in ("target_tasks", "tuning_tasks", "history_tasks", "learning_rates", "arms"):
            if not getattr(self, name):
                raise ConfigError(f"{name} is empty; expected at least one entry")
        for name in ("seeds", "steps", "evaluations", "workers"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; expected at least 1")
        arms(self.arms)

    @property
    def tasks(self) -> list[str]:
        """Every task that some run trains on."""
        return [*self.target_tasks, *self.tuning_tasks, *self.history_tasks]

    def quick(self) -> DemoConfig:
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
            eval_examples=40,
        )


def run_demo(out: str | Path, config: DemoConfig | None = None, console: Console | None = None) -> Summary:
    """Run the demo into `out`, or continue one that was interrupted there, and write results.json.

    Starts worker processes by spawning: a script that calls this needs an ``if __name__ == "__main__":`` guard.

    Returns:
        The summary, which results.json holds as well; `foresight.report` turns the folder into a page.
    """
    config = config or DemoConfig()
    retained = [name for name in card()["retained"] if name not in config.tasks]
    plan = Plan(config, retained)
    with Runner(Path(out) / RUNS, _work, config.workers, plan.total, console) as runner:
        records = plan.carry_out(runner)
    summary = summarise(records, config.budget, retained)
    data = summary.to_json()
    data |= {"config": asdict(config), "environment": environment(), "runs": [record.key for record in records]}
    write_json(Path(out) / RESULTS, data)
    return summary


def read_demo(folder: str | Path) -> tuple[DemoConfig, Summary, list[Record], dict[str, str]]:
    """The settings, summary, records and environment of a finished demo; the summary is computed from the records.

    Raises:
        DataError: the folder holds no finished demo, or one of another version.
    """
    path = Path(folder) / RESULTS
    try:
        data = json.loads(path.read_text())
        if data["schema"] != SCHEMA:
            raise DataError(f"{path} has schema {data['schema']}, expected {SCHEMA}; run the demo again")
        config = DemoConfig(**data["config"])
        records = [read_record(Path(folder) / RUNS / key / RESULT) for key in data["runs"]]
        retained, versions = data["retained"], data["environment"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path} is not the result of a finished demo ({error}); run the demo into that folder"
        ) from error
    found = [record for record in records if record is not None]
    if len(found) < len(records):
        raise DataError(f"{folder} lacks {len(records) - len(found)} of its {len(records)} runs; run the demo again")
    return config, summarise(found, config.budget, retained), found, versions


def _work(cell: Cell, folder: Path) -> Measures:
    from .trial import run_cell  # torch and transformers are loaded by the workers alone

    return run_cell(cell, folder)


class Plan:
    """The cells of a demo in the order in which they depend on each other.

    Attributes:
        history: task -> key of its recorded full run, for arms that learn from other tasks.
        realised: (task, seed) -> key of the full run that gives the realised circuit.
    """

    def __init__(self, config: DemoConfig, retained: Sequence[str]):
        self.config, self.retained = config, list(retained)
        self.arms = [arm for arm in arms(config.arms) if arm.name != "full"]
        self.full = ARMS["full"]
        self.history: dict[str, str] = {}
        self.realised: dict[tuple[str, int], str] = {}

    @property
    def total(self) -> int:
        """Cells of the whole plan."""
        config = self.config
        tuning = (1 + len(self.arms)) * len(config.learning_rates) * len(config.tuning_tasks)
        scored = (1 + sum(arm.draws for arm in self.arms)) * len(config.target_tasks) * config.seeds
        return 1 + tuning + len(config.history_tasks) + scored

    def carry_out(self, runner: Runner) -> list[Record]:
        """Run everything; the result holds every record, failed ones included."""
        config = self.config
        base = Cell("base", "base", "", data=self._data([*config.target_tasks, *self.retained]))
        records = runner.run([base, *self._tuning([self.full])], "tune and track full")
        rate = tune(record for record in records if record.cell.stage == "tune").learning_rate
        if rate is None:
            return records
        goals = list(itertools.product(config.target_tasks, range(1, config.seeds + 1)))
        tracked = [self._cell("tune", self.full, name, 0, rate) for name in config.tuning_tasks]
        tracked += [self._cell("track", self.full, name, 0, rate) for name in config.history_tasks]
        self.history = {cell.task: runner.path(cell).name for cell in tracked}
        full = [self._cell("score", self.full, name, seed, rate) for name, seed in goals]
        self.realised = {(cell.task, cell.seed): runner.path(cell).name for cell in [*tracked, *full]}
        unaided = [arm for arm in self.arms if not arm.learns]
        learning = [arm for arm in self.arms if arm.learns]
        records += runner.run([*tracked[len(config.tuning_tasks) :], *full, *self._tuning(unaided)], "track, tune")
        records += runner.run([*self._tuning(learning), *self._scored(unaided, goals, records)], "tune, train")
        return records + runner.run(self._scored(learning, goals, records), "train")

    def _tuning(self, wanted: Iterable[Arm]) -> list[Cell]:
        config = self.config
        return [
            self._cell("tune", arm, name, 0, rate)
            for arm, rate, name in itertools.product(wanted, config.learning_rates, config.tuning_tasks)
        ]

    def _scored(self, wanted: Iterable[Arm], goals: list[tuple[str, int]], records: list[Record]) -> list[Cell]:
        """Scored runs at the learning rate that the arm's tuning runs chose; none for an arm that always failed."""
        cells: list[Cell] = []
        for arm in wanted:
            rate = tune(r for r in records if r.cell.stage == "tune" and r.cell.arm == arm.name).learning_rate
            if rate is not None:
                cells += [self._cell("score", arm, *goal, rate, draw) for goal in goals for draw in range(arm.draws)]
        return cells

    def _cell(self, stage: Stage, arm: Arm, name: str, seed: int, rate: float, draw: int = 0) -> Cell:
        config = self.config
        learned = tuple(key for source, key in self.history.items() if source != name) if arm.learns else ()
        training = {
            "budget": config.budget,
            "max_steps": config.steps,
            "per_device_train_batch_size": config.batch_size,
            "remask_every": config.remask_every,
            "watch_steps": config.remask_every,  # then every arm restarts its moments at the same steps
            "probe_every": config.probe_every,
            "probe_examples": config.probe_examples,
            "forecaster": config.forecaster,
            "moments": "restart",
            "gate": False,  # what is compared is the forecast, not the choice between forecasting and not
            **arm.settings,
        }
        reference = None if arm.name == "full" else self.realised[name, seed]
        return Cell(stage, arm.name, name, seed, draw, rate, training, self._data(self.retained), learned, reference)

    def _data(self, evaluate: list[str]) -> dict[str, Any]:
        sizes = {key: getattr(self.config, key) for key in ("train_examples", "eval_examples", "evaluations")}
        return {**sizes, "evaluate": evaluate}
