"""`TrackConfig`: what `foresight track` runs and records. `ForesightConfig` and `DataConfig` hold the rest."""

from __future__ import annotations

from dataclasses import dataclass

from ...common.errors import ConfigError, mapping, one_of
from ...common.setting import setting
from ...policies.catalogue import POLICIES
from ...scoring import SCORERS
from ...tasks import DATA_TASKS, TASKS

STRATEGIES = {"free": "full", "mech": "static", "random": "random"}
"""Strategy -> policy; the strategies are those of "Navigating by Old Maps" (arXiv 2605.06076)."""


@dataclass
class TrackConfig:
    """Settings of a tracking study: tasks x strategies x seeds, one run each, all from one base model.

    `probe_every` sets the steps between snapshots, `probe_examples` the number of contrast pairs (from the training
    split) in a probe, `budget` the size of a circuit. Seeds change only the order of the data (and the mask of strategy
    random). Raises ConfigError for a value that cannot be used.
    """

    tasks: list[str] | None = setting(None, "Tasks to train on, one run each; not with `dataset` or `task`.")
    strategies: list[str] = setting(
        ["free"],
        "free: train all components; mech: train the circuit of step 0 at `budget`; random: train a random "
        "mask of the same budget. Names of policies are accepted too.",
    )
    seeds: int = setting(1, "Runs per task and strategy, with seeds from `seed` upwards.")
    strategy_learning_rates: dict[str, float] | str | None = setting(
        None, "Learning rates of strategies that need one other than `learning_rate` (JSON in a flag)."
    )
    also: list[str] | None = setting(None, "Tasks whose circuits every run follows, besides the one trained on.")
    sources: dict[str, str] | str | None = setting(
        None, "Where to read a task's data if not from the hub: task to file or folder (JSON in a flag)."
    )
    scorers: list[str] | None = setting(
        None, "Scorers of every snapshot; by default attribution, or gradient_activation without pairs."
    )
    edges_every: int = setting(0, "Score edges at every N-th snapshot; 0 scores no edges.")
    top_edges: int = setting(20_000, "Edges kept per task and snapshot, by |score|.")
    faithfulness: bool = setting(True, "Test the circuits of earlier snapshots on the model of each snapshot.")
    keep_weights: bool = setting(
        False, "Keep the changed weights at every snapshot, and test the circuits of all snapshots on all models."
    )
    keep_models: bool = setting(True, "Keep what each run has learned, for foresight export.")
    conflict: bool = setting(
        True, "Measure how several tasks' circuits conflict on the base model; with edges_every, by Boolean logic too."
    )
    curves: bool = setting(True, "Measure faithfulness over circuit sizes (CPR, CMD) on base and final models.")
    workers: int = setting(1, "Runs at a time. With 1 they run in this process; otherwise each worker uses one thread.")

    def __post_init__(self) -> None:
        tasks, strategies = (*TASKS, *DATA_TASKS), (*STRATEGIES, *POLICIES)
        for name, known in {"tasks": tasks, "also": tasks, "strategies": strategies, "scorers": SCORERS}.items():
            if (values := getattr(self, name)) is None:
                continue
            if not values:
                raise ConfigError(f"{name} is empty; give at least one entry, or leave {name} out")
            for value in values:
                one_of(f"entry of {name}", value, known)
            if len(set(values)) < len(values):
                raise ConfigError(f"{name} is {values}; expected no entry twice")
        for name, least in (("seeds", 1), ("workers", 1), ("top_edges", 1), ("edges_every", 0)):
            if getattr(self, name) < least:
                raise ConfigError(f"{name} is {getattr(self, name)}; expected at least {least}")
        for strategy, rate in self.rates().items():
            one_of("strategy of strategy_learning_rates", strategy, strategies)
            if not isinstance(rate, (int, float)) or not rate > 0:
                raise ConfigError(f"strategy_learning_rates: {strategy} is {rate!r}; expected a number above 0")
        for name in self.places():
            one_of("task of sources", name, DATA_TASKS)

    def rates(self) -> dict[str, float]:
        """`strategy_learning_rates` as a dictionary. Raises ConfigError if it is not a mapping."""
        return mapping("strategy_learning_rates", self.strategy_learning_rates, '{"mech": 0.001}') or {}

    def places(self) -> dict[str, str]:
        """`sources` as a dictionary. Raises ConfigError if it is not a mapping."""
        return mapping("sources", self.sources, '{"sst2": "data/sst2"}') or {}
