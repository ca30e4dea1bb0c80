"""A study from its settings to its results: localize, edit at the found heads and at random ones, judge.

results.json                the verdict, the outcomes it rests on, settings and versions
runs/<key>/result.json      one record per cell (see studies.runner); a finished cell is never run twice
runs/<key>/outputs.npz      outputs of the heads on the training questions, which the shifts share
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import combinations, product
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from transformers import TrainingArguments

from ...common.errors import ConfigError, DataError, one_of
from ...common.sealed import read_sealed, write_sealed
from ...model.components import component_table
from ...model.loading import load_meta_model
from ...model.model_config import ModelConfig
from ...tasks import task
from ..compare.curve import EVALUATION_SEED, tokenizer_of
from ..ledger import decode
from ..provenance import digest, environment
from ..runner import RUNS, Runner, Work
from .cells import BASE, EDIT, ITI, LOCALIZE, LORA, Cell, Measures, Record
from .localizers import head_names
from .outcomes import FULL, LOCALIZED, LORA_ARM, RANDOM, Arm, Outcome, Setting, outcome
from .preferences import PARTS, load_behaviour
from .settings import EvidenceConfig
from .verdict import Evidence, judge

RESULTS = "results.json"
SCHEMA = 1


def run_study(out: str | Path, config: EvidenceConfig, console: Console | None = None) -> Evidence:
    """Run a study in the folder `out`, or continue one that was interrupted there, and write its results.

    Workers are spawned processes, so a script that calls this needs an ``if __name__ == "__main__":`` guard.

    Raises:
        ConfigError: more heads in a set than the model has.
        DataError: before anything runs, a behaviour or a retained task that cannot be used with the model's tokenizer;
            later, a localizer failed, or there is nothing to compare.
    """
    plan = Plan(config)
    folder = Path(out)
    with Runner(folder / RUNS, Work(_work, Cell, Measures), config.workers, plan.total, console) as runner:
        (base,) = plan.measured(runner, [plan.cell(BASE)], "before the edit")
        arms = plan.arms(runner)
        shared = (cell.shared for method in config.methods for _, cell in plan.cells_of(method, arms[0]))
        plan.measured(runner, [cell for cell in shared if cell], "what edits share")
        outcomes = {method: plan.outcomes(runner, method, arms) for method in config.methods}
    evidence = judge(outcomes, base.test[config.effect], config.effect, heads=config.heads)
    found = {"schema": SCHEMA, **asdict(evidence), "config": asdict(config), "environment": environment()}
    write_sealed(folder / RESULTS, found)
    return evidence


def read_results(folder: str | Path) -> tuple[EvidenceConfig, Evidence, dict[str, str]]:
    """Settings, verdict and versions of a finished study. Raises DataError if the folder has none of this schema."""
    path = Path(folder) / RESULTS
    try:
        data: dict[str, Any] = read_sealed(path)
        if data.pop("schema") != SCHEMA:
            raise DataError(f"{path} has another schema than {SCHEMA}; run the study again")
        config, versions = EvidenceConfig(**data.pop("config")), dict(data.pop("environment"))
        return config, decode(Evidence, data), versions
    except ConfigError as error:
        raise DataError(f"the settings in {path} cannot be used here: {error}") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is not the result of a study ({error}); run `foresight evidence` there") from error


class Plan:
    """The cells of a study; `total` is their maximum number."""

    def __init__(self, config: EvidenceConfig):
        self.config = config
        self.every = head_names(component_table(load_meta_model(ModelConfig.of(config.model))))
        if config.heads >= len(self.every):
            raise ConfigError(f"heads is {config.heads}, but the model has {len(self.every)}; expected fewer")
        for name in config.training or ():
            one_of("field of training", name, TrainingArguments.__dataclass_fields__)
        tokenizer = tokenizer_of(config.model)
        self.sizes = {part: getattr(config, f"{part}_questions") for part in PARTS}
        load_behaviour(config.behaviour, tokenizer, self.sizes)  # what cannot be used is refused before anything runs
        for name in config.retained():
            task(name).examples(tokenizer, "test", config.retained_examples, EVALUATION_SEED)
        self.inputs = {name: digest(Path(name)) for name in (config.model, config.behaviour) if Path(name).exists()}
        self.random = random_sets(self.every, config.heads, config.draws)
        points = {EDIT: len(config.taus) * len(config.learning_rates), ITI: len(config.strengths)}
        sets = len(config.localizers) + len(self.random) + 1
        edits = sum(points[method] * (sets + (method == EDIT)) for method in config.methods)
        self.total = 1 + config.seeds * (len(config.localizers) + len(config.methods) + edits)

    def cell(self, method: str, seed: int = 0, **settings: Any) -> Cell:
        """One run. Equal sets of heads give the same cell in every arm."""
        c = self.config
        same = ("invert", "retained_examples", "judge", "classifier", "max_new_tokens")
        data = {"questions": self.sizes, "retained": c.retained(), **{name: getattr(c, name) for name in same}}
        return Cell(method, c.behaviour, c.model, seed, settings, data, self.inputs)

    def arms(self, runner: Runner[Cell, Measures]) -> list[Arm]:
        """Localize, and list every set of heads: one per localizer (by seed), the random ones, and all heads."""
        c = self.config
        arms = []
        for name, localizer in c.chosen().items():
            cells = [self.cell(LOCALIZE, seed, localizer=list(localizer)) for seed in range(c.seeds)]
            ranked = [found.ranked for found in self.measured(runner, cells, "localize")]
            if (fewest := min(map(len, ranked))) < c.heads:
                raise DataError(f"localizer {name!r} ranks {fewest} heads; expected at least {c.heads}")
            arms.append(Arm(name, LOCALIZED, tuple(heads[: c.heads] for heads in ranked)))
        arms += [Arm(f"random {i}", RANDOM, (heads,) * c.seeds) for i, heads in enumerate(self.random)]
        return [*arms, Arm("all heads", FULL, (tuple(self.every),) * c.seeds)]

    def outcomes(self, runner: Runner[Cell, Measures], method: str, arms: Sequence[Arm]) -> list[Outcome]:
        """Run every set of heads at every setting, and choose its setting on the validation questions."""
        if method == EDIT:
            arms = [*arms, Arm("rank-one LoRA", LORA_ARM, ((),) * self.config.seeds)]
        cells = [(arm, point, cell) for arm in arms for point, cell in self.cells_of(method, arm)]
        runs: dict[Arm, dict[Setting, list[Record]]] = {arm: {} for arm in arms}
        for (arm, point, _), record in zip(cells, runner.run([cell for *_, cell in cells], method), strict=True):
            runs[arm].setdefault(point, []).append(record)
        found = (outcome(arm, of_arm, self.config.effect, self.config.max_divergence) for arm, of_arm in runs.items())
        return [result for result in found if result is not None]

    def cells_of(self, method: str, arm: Arm) -> Iterator[tuple[Setting, Cell]]:
        """(setting, cell) for every setting and seed of one set of heads."""
        c = self.config
        how: dict[str, Any] = {"epochs": c.epochs, "questions": c.batch_size, "more": c.training or {}}
        for seed, heads in enumerate(arm.heads):
            chosen = {"heads": sorted(heads, key=self.every.index)}
            if method == ITI:
                for strength in c.strengths:
                    yield (0.0, strength), self.cell(ITI, seed, **chosen, strength=strength, direction=c.direction)
                continue
            trained, where = (LORA, {}) if arm.kind == LORA_ARM else (EDIT, {**chosen, "read": c.read})
            for tau, rate in product(c.taus, c.learning_rates):
                yield (tau, rate), self.cell(trained, seed, **where, tau=tau, learning_rate=rate, **how)

    def measured(self, runner: Runner[Cell, Measures], cells: Sequence[Cell], stage: str) -> list[Measures]:
        """Run cells; what they measured, in their order. Raises DataError if one failed."""
        records = runner.run(cells, stage)
        for record in records:
            if record.failed:
                raise DataError(f"{record.cell.label}: {record.error}; see {runner.path(record.cell)}")
        return [record.measures for record in records if record.measures]


def random_sets(heads: Sequence[str], size: int, draws: int, seed: int = 0) -> list[tuple[str, ...]]:
    """Distinct random sets of heads; every set once if no more than `draws` exist (all single heads, say)."""
    possible = math.comb(len(heads), size)
    if possible <= draws:
        return list(combinations(heads, size))
    rng = np.random.default_rng(seed)
    found: dict[tuple[int, ...], None] = {}
    while len(found) < draws:
        found[tuple(sorted(rng.choice(len(heads), size, replace=False).tolist()))] = None
    return [tuple(heads[i] for i in picks) for picks in found]


def _work(cell: Cell, folder: Path) -> Measures:
    from .trial import run_cell

    return run_cell(cell, folder)
