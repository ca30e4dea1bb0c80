"""Measure masks of single weights by forecasts of their movement: what is foreseen, and what it is worth.

    python -m eval.movement --json eval/results/movement/results.json [--quick] [--work FOLDER]

The shipped model is fine-tuned on generated tasks with a tenth of its weights, at equal total steps in every arm: the
watch of a forecast, rewound or kept, is part of its run. Full runs in another data order are recorded; hindsight takes
the weights that moved most in that of its own task, a regression learns from those of the other tasks. The learning
rate of an arm on a task is that with the best mean over the other tasks. Cells that are done are read from the JSON
file, so that a broken run goes on where it was.

What counts is the log-loss area (mean log held-out loss over the run, lower is better). The gain share of a forecast is
its gain over static, divided by hindsight's gain over static; the same against random. Overlaps are with the hindsight
mask; a tenth of the weights is shared by chance. The bar is half of hindsight's gain over both.
"""

from __future__ import annotations

import argparse
import itertools
import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from datasets import disable_progress_bars
from rich.progress import track
from safetensors.numpy import load_file, save_file
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from transformers.utils import logging as transformers_logging

from foresight.bank.weights import WeightBank
from foresight.common.files import write_json
from foresight.common.intervals import log_loss_area
from foresight.forecasters.single_weights.features import FEATURES, WatchedMatrix
from foresight.forecasters.single_weights.movement import Example, Regression, example, movement_forecast
from foresight.forecasters.single_weights.sums import running_sum
from foresight.model.shipped import model_path
from foresight.policies.single_weights.foresight import WeightForesight
from foresight.studies.provenance import environment
from foresight.tasks import task
from foresight.tasks.evaluation import evaluate
from foresight.training.config import ForesightConfig
from foresight.training.trainer import ForesightTrainer

from .movement_summary import show, summarise

BUDGET = 0.1
RECORDED_SEED = 100
EVALUATION_SEED = 1_000_000
SHARES = (0.05, 0.1, 0.2)
LAYERS = 4
HINDSIGHT = "hindsight.safetensors"


@dataclass(frozen=True)
class Study:
    """Sizes of a study."""

    tasks: tuple[str, ...] = ("gender", "boolean", "ioi", "induction")
    rates: tuple[float, ...] = (1e-3, 3e-3)
    steps: int = 60
    batch: int = 16
    evaluations: int = 5
    examples: int = 50
    drawn: int = 20_000


QUICK = Study(tasks=("gender", "boolean"), rates=(1e-3,), steps=20, batch=8, evaluations=2, examples=20, drawn=2000)


@dataclass(frozen=True)
class Arm:
    """A policy with its parameters; `share` is the watch's, `learns` that its rule is a regression on other tasks."""

    name: str
    policy: str
    params: dict[str, Any] = field(default_factory=dict, hash=False)
    share: float | None = None
    learns: bool = False


def arms() -> list[Arm]:
    def forecast(label: str, watch: str, share: float, **params: Any) -> Arm:
        name = f"{label} {round(100 * share)} % {watch.removeprefix('full-')}"
        return Arm(name, "foresight", {"watch": watch, **params}, share, label == "regression")

    dense = dict(movement_memory="dense")
    watches = ("full-rollback", "full-keep")
    return [
        Arm("random", "random"),
        Arm("static", "static"),
        Arm("hindsight", "movement"),
        *(forecast("displacement", w, share, **dense) for share in SHARES for w in watches),
        *(forecast("factored", w, 0.2) for w in (*watches, "hold")),
        *(forecast("regression", w, 0.2, **dense) for w in watches),
    ]


class Run:
    """One fine-tuning run of the study, its learning curve, and for a recorded one what was measured early in it."""

    def __init__(
        self, unit: Unit, seed: int, folder: Path, policy: str, params: dict[str, Any], budget: float = BUDGET
    ):
        study = self.study = unit.study
        self.task = task(unit.task)
        self.tokenizer = AutoTokenizer.from_pretrained(model_path(), local_files_only=True)
        self.held_out = self.task.dataset(self.tokenizer, "test", study.examples, seed=EVALUATION_SEED)
        model = AutoModelForCausalLM.from_pretrained(model_path(), dtype=torch.float32, local_files_only=True)
        args = ForesightConfig(
            str(folder), granularity="weights", policy=policy, policy_params=params, budget=budget,
            learning_rate=unit.rate, max_steps=study.steps, seed=seed, per_device_train_batch_size=study.batch,
            use_cpu=True, bf16=False, gradient_checkpointing=False, save_strategy="no", logging_strategy="no",
            report_to="none", disable_tqdm=True,
        )  # fmt: skip
        rows = self.task.dataset(self.tokenizer, "train", study.steps * study.batch, seed=seed)
        self.trainer = ForesightTrainer(model, args, rows, processing_class=self.tokenizer)
        self.curve: dict[int, float] = {}
        self.seconds = 0.0

    def train(self, *callbacks: TrainerCallback) -> dict[str, Any]:
        """Train, and say how it went."""
        for one in (_Curve(self), *callbacks):
            self.trainer.add_callback(one)
        began = time.perf_counter()
        self.trainer.train()
        seconds = time.perf_counter() - began - self.seconds
        steps, losses = list(self.curve), list(self.curve.values())
        notes: dict[str, float] = {}
        for entry in self.trainer.state.log_history:
            notes |= {k.removeprefix("foresight/"): float(v) for k, v in entry.items() if k.startswith("foresight/")}
        kept = ("watch_steps", "movement_seconds", "movement_bytes", "watch_bank_bytes", "scoring_share")
        costs = {key: notes[key] for key in kept if key in notes}
        return {"area": log_loss_area(steps, losses), "final": losses[-1], "seconds": seconds, **costs}

    def evaluate(self, step: int) -> None:
        """A point of the learning curve."""
        began = time.perf_counter()
        found = evaluate(self.trainer.model, self.tokenizer, self.held_out, correct=self.task.correct)
        self.curve[step] = found["loss"]
        self.seconds += time.perf_counter() - began


class _Curve(TrainerCallback):
    def __init__(self, run: Run):
        n = run.study.evaluations
        self.run, self.at = run, {round(run.study.steps * i / n) for i in range(1, n + 1)}

    def on_train_begin(self, args, state, control, **kwargs):
        self.run.evaluate(0)

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step in self.at:
            self.run.evaluate(state.global_step)


class _Early(TrainerCallback):
    """Keeps what is known of every weight after each share of a run in which all are trained."""

    def __init__(self, run: Run):
        self.run = run
        self.at = {max(1, round(share * run.study.steps)): share for share in SHARES}
        self.seen: dict[float, list[WatchedMatrix]] = {}

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step in self.at:
            trainer = self.run.trainer
            policy, moved = watching(trainer), distances(trainer)
            self.seen[self.at[state.global_step]] = [
                WatchedMatrix(m.module, {**m.sums, "displacement": moved[m.module]}, m.weight)
                for m in policy.measured(cast(WeightBank, trainer.bank))
            ]


def watching(trainer: ForesightTrainer) -> WeightForesight:
    """The policy of a run that watches."""
    assert isinstance(trainer.policy, WeightForesight)
    return trainer.policy


def distances(trainer: ForesightTrainer) -> dict[str, Tensor]:
    """How far each weight is from the start, by module, in a run whose bank has them all and has folded none."""
    values, shapes = trainer.bank.vectors.detach().abs().flatten(), watching(trainer).sums.shapes
    return {
        target.module: values[part].view(shapes[target.module]).clone()
        for target, part in trainer.bank.table.by_target(trainer.bank.ids)
    }


def record(unit: Unit, seed: int, folder: Path) -> tuple[dict[str, Any], _Early, dict[str, Tensor]]:
    """A full run: how it went, what was measured early, final distances. Its delta and examples stay in `folder`."""
    zero, study = folder / "zero.json", unit.study
    Regression([0.0] * (2 * len(FEATURES)), 0.0, LAYERS).write(zero)  # needs every statistic, and chooses nothing
    params = dict(watch="full-keep", watch_steps=study.steps - 1, movement_rule=str(zero), movement_memory="dense")
    run = Run(unit, seed, folder / "run", "foresight", params, budget=1.0)
    early = _Early(run)
    found = run.train(early)
    final = distances(run.trainer)
    for share, seen in early.seen.items():
        one = example(partial(iter, seen), final, LAYERS, study.drawn)
        save_file({"features": one.features, "moved": one.moved}, folder / f"example-{share}.safetensors")
    return found, early, final


def best(scores: dict[str, Tensor]) -> np.ndarray:
    """Ids of the tenth of the weights with the highest scores, by module in the order of the table, int64, sorted."""
    flat = torch.cat([values.flatten() for values in scores.values()])
    return flat.topk(int(BUDGET * len(flat))).indices.sort().values.numpy()


def overlaps(
    early: _Early, own: dict[str, Tensor], hindsight: np.ndarray, rules: dict[float, Regression]
) -> dict[str, float]:
    """Share of the hindsight mask that a forecast has, by forecast; and by what memory makes of a displacement."""

    def shared(scores: dict[str, Tensor]) -> float:
        return len(np.intersect1d(best(scores), hindsight)) / len(hindsight)

    found = {"own full run": shared(own)}
    for share, seen in early.seen.items():
        label = f"{round(100 * share)} %"
        for rule in ("displacement", "agreement", "signal-to-noise"):
            found[f"{rule} {label}"] = shared(dict(movement_forecast(rule).scores(partial(iter, seen))))
        found[f"regression {label}"] = shared(dict(rules[share].scores(partial(iter, seen))))
        moved = {one.module: one.sums["displacement"] for one in seen}
        for form in ("factored", "low-precision"):
            found[f"{form} {label}"] = shared({name: _remembered(form, values) for name, values in moved.items()})
        found[f"count sketch, 1 byte a weight, {label}"] = shared(
            {name: _sketched(values) for name, values in moved.items()}
        )
        gradients = {one.module: one.sums["gradient"].abs() for one in seen}
        found[f"mean gradient {label}"] = shared(gradients)
    found["factored own full run"] = shared({name: _remembered("factored", values) for name, values in own.items()})
    return found


def _remembered(form: str, values: Tensor) -> Tensor:
    kept = running_sum(form, *values.shape)
    kept.add(values)
    return kept.read()


def _sketched(values: Tensor, rows: int = 3) -> Tensor:
    """What a count sketch of a byte a weight remembers (Charikar et al. 2002): the median of signed bucket sums."""
    flat, n = values.flatten(), max(1, values.numel() // (4 * rows))
    read = []
    for row in range(rows):
        generator = torch.Generator().manual_seed(row)
        bucket = torch.randint(n, flat.shape, generator=generator)
        sign = torch.randint(2, flat.shape, generator=generator) * 2.0 - 1
        read.append(torch.zeros(n).index_add_(0, bucket, sign * flat)[bucket] * sign)
    return torch.stack(read).median(0).values


@dataclass(frozen=True)
class Unit:
    """A task at a learning rate: what every arm is trained on."""

    study: Study
    task: str
    rate: float
    work: Path

    @property
    def folder(self) -> Path:
        return self.work / f"{self.task}-{self.rate:g}"

    @property
    def recording(self) -> Path:
        return self.folder / "recorded"

    def recorded(self) -> dict[str, Any]:
        """The full run in another data order, which hindsight and regressions learn from."""
        found, _, final = record(self, RECORDED_SEED, self.recording)
        save_file({"mask": best(final)}, self.recording / HINDSIGHT)
        return found

    def full(self) -> dict[str, Any]:
        """The full run in the order of the arms, and what could be foreseen in it."""
        found, early, own = record(self, 0, self._new_folder())
        rules = {share: Regression.read(self.learned(share)) for share in SHARES}
        return {**found, "overlaps": overlaps(early, own, self.hindsight, rules)}

    def arm(self, arm: Arm) -> dict[str, Any]:
        params = dict(arm.params)
        if arm.name == "hindsight":
            params["movement_from"] = str(self.recording / "run")
        if arm.share:
            params["watch_steps"] = max(1, round(arm.share * self.study.steps))
        if arm.learns:
            params["movement_rule"] = str(self.learned(arm.share or 0))
        run = Run(self, 0, self._new_folder() / "run", arm.policy, params)
        found = run.train()
        shared = np.intersect1d(run.trainer.bank.mask.components, self.hindsight)
        return {**found, "overlap": len(shared) / len(self.hindsight)}

    @property
    def hindsight(self) -> np.ndarray:
        return load_file(self.recording / HINDSIGHT)["mask"]

    def learned(self, share: float) -> Path:
        """A regression on the recorded runs of the other tasks, as a file."""
        path = self.folder / f"rule-{share}.json"
        others = [replace(self, task=name).recording for name in self.study.tasks if name != self.task]
        files = [folder / f"example-{share}.safetensors" for folder in others]
        Regression.fit([Example(**load_file(file)) for file in files], LAYERS).write(path)
        return path

    def _new_folder(self) -> Path:
        return Path(tempfile.mkdtemp(dir=self.folder))


def run_study(study: Study, work: Path, path: Path | None) -> dict[str, Any]:
    """All cells that are not in the file yet: {"task|rate|arm": {...}}; the file is written after each."""
    cells: dict[str, Any] = json.loads(path.read_text())["cells"] if path and path.exists() else {}
    units = [Unit(study, name, rate, work) for name, rate in itertools.product(study.tasks, study.rates)]
    todo: list[tuple[str, Callable[[], dict[str, Any]]]] = []
    for unit in units:
        unit.recording.mkdir(parents=True, exist_ok=True)
        key = f"{unit.task}|{unit.rate:g}|recorded"
        if not (unit.recording / HINDSIGHT).exists():
            cells.pop(key, None)
        todo.append((key, unit.recorded))
    for unit in units:
        todo.append((f"{unit.task}|{unit.rate:g}|full", unit.full))
        todo += [(f"{unit.task}|{unit.rate:g}|{arm.name}", partial(unit.arm, arm)) for arm in arms()]
    for key, make in track([one for one in todo if one[0] not in cells], description="training"):
        began = time.process_time()
        cells[key] = {**make(), "cpu_seconds": time.process_time() - began}
        if path:
            write_json(path, report(study, cells))
    return report(study, cells)


def report(study: Study, cells: dict[str, Any]) -> dict[str, Any]:
    """The cells, what they cost and what follows from them."""
    spent = sum(one["cpu_seconds"] for one in cells.values())
    summary = summarise(study.tasks, study.rates, [arm.name for arm in arms()], cells)
    if summary["tasks"]:
        summary["chance"] = BUDGET
    return {
        "study": vars(study),
        "environment": environment(),
        "cpu_seconds": spent,
        "summary": summary,
        "cells": cells,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--json", type=Path, metavar="FILE", help="where results are written, and read to go on")
    parser.add_argument("--work", type=Path, metavar="FOLDER", help="where recorded runs are kept, to go on later")
    parser.add_argument("--quick", action="store_true", help="two tasks and a few steps: whether it works")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    transformers_logging.disable_progress_bar()
    disable_progress_bars()
    study = QUICK if arguments.quick else Study()
    with tempfile.TemporaryDirectory() as temporary:
        work = arguments.work or Path(temporary)
        show(run_study(study, work, arguments.json))


if __name__ == "__main__":
    main()
