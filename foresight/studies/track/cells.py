"""One run of a study: a task under a strategy with a seed, recorded; continued from where it was interrupted."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any, TypeAlias

from datasets import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase, PrinterCallback

from ...common.errors import ConfigError, NonFiniteError
from ...common.sealed import write_sealed
from ...model.components import component_table
from ...scoring.probes import ContrastProbe, Probe, TextProbe
from ...tasks import task
from ...tasks.data_config import DataConfig
from ...tasks.load_data import load_data
from ...training import checkpoint
from ...training.config import ForesightConfig
from ...training.scoring_budget import SHORTEST, whole_probe
from ...training.trainer import ForesightTrainer
from .. import ledger
from .measured import MOST_TASKS, Rows, conflict_rows, curve_rows
from .recording import Recording
from .settings import STRATEGIES, TrackConfig
from .tracker import Tracker, Watched

RUN, RECORDING, MEASURED = "run", "recording", "measured.json"
OWN = "dataset"
"""Stands for the task's name when the user gives a dataset instead of a task."""

Load = Callable[[], tuple[PreTrainedModel, PreTrainedTokenizerBase]]
"""Loads the base model and its tokenizer; must be importable by name, because fresh processes call it."""


@dataclass(frozen=True)
class Cell:
    """One run: its task, the strategy that chooses its mask, the seed of its data order, and a digest of all else."""

    task: str
    strategy: str
    seed: int
    settings: str = ""

    @property
    def label(self) -> str:
        """Also the name of its folder."""
        return f"{self.task}-{self.strategy}-{self.seed}"

    @property
    def names(self) -> dict[str, Any]:
        """What rows of tables say of the run."""
        return {"task": self.task, "strategy": self.strategy, "seed": self.seed}


@dataclass(frozen=True)
class Measures:
    """How a run ended: accuracy and loss by task, steps, times as in `Tracker`, and the number of parameters that were
    trained at a time.
    """

    metrics: dict[str, dict[str, float]] = field(default_factory=dict)
    steps: int = 0
    seconds: float = 0.0
    tracking_seconds: float = 0.0
    replay_seconds: float = 0.0
    trainable: int = 0

    @property
    def tracking_share(self) -> float:
        """Share of the run's time, in [0, 1]."""
        whole = self.seconds + self.replay_seconds
        return (self.tracking_seconds + self.replay_seconds) / whole if whole else 0.0


Record: TypeAlias = ledger.Record[Cell, Measures]
"""A finished run of a study."""


@dataclass(frozen=True)
class Setting:
    """Everything that the cells of a study share. A study scores one set of examples throughout; where the training
    settings leave it open, that is 64 of them every 10 steps.
    """

    track: TrackConfig
    data: DataConfig
    training: ForesightConfig
    load: Load

    def __post_init__(self) -> None:
        args = self.training
        args.probe_batch_size, args.probe_examples = whole_probe(args)
        args.probe_every = args.probe_every or SHORTEST

    def cells(self) -> list[Cell]:
        """Every cell, ordered by seed first, so that an interrupted study holds complete repetitions. Raises
        ConfigError for tasks and a dataset at once, or neither.
        """
        track, data = self.track, self.data
        single = [data.task or OWN] if data.task or data.dataset else []
        if bool(track.tasks) == bool(single):
            raise ConfigError(
                f"tasks is {track.tasks}, task {data.task!r}, dataset {data.dataset!r}; expected either tasks, or a "
                "task or dataset"
            )
        seeds = range(self.training.seed, self.training.seed + track.seeds)
        ordered = product(seeds, track.strategies, track.tasks or single)
        return [Cell(name, strategy, seed) for seed, strategy, name in ordered]

    def tables(self, name: str, tokenizer: PreTrainedTokenizerBase) -> tuple[Dataset, Dataset | None, Dataset | None]:
        """Training table, evaluation table and contrast pairs of a task: the same for every strategy and seed."""
        data = self.data
        pairs = max(whole_probe(self.training)[1], data.task_contrast_examples)
        if name == data.task:
            data = replace(data, task_contrast_examples=pairs)
        elif name != OWN:
            place = self.track.places().get(name)
            data = DataConfig(name, data.task_examples, data.task_eval_examples, pairs, dataset=place)
        return load_data(data, tokenizer, self.training.seed)


def run_cell(cell: Cell, folder: Path, setting: Setting) -> Measures:
    """Run a cell in `folder`, or continue it from its last complete checkpoint.

    Raises:
        NonFiniteError: the run diverged. Its checkpoints are gone then, as those of a finished run are.
        ForesightError: settings or data that cannot be used.
    """
    try:
        found = _train(cell, folder, setting)
    except NonFiniteError:
        _remove_checkpoints(folder)
        raise
    _remove_checkpoints(folder)
    return found


def _remove_checkpoints(folder: Path) -> None:
    for leftover in (folder / RUN).glob("checkpoint-*"):
        shutil.rmtree(leftover)


def recording_of(folder: str | Path) -> Recording:
    """The recording in a cell's folder. Raises TrajectoryError."""
    return Recording.read(Path(folder) / RUN / RECORDING)


def _train(cell: Cell, folder: Path, setting: Setting) -> Measures:
    """Train with a tracker, measure the final model and write `MEASURED`."""
    track, args = setting.track, _arguments(cell, folder, setting)
    model, tokenizer = setting.load()
    train, evaluation, pairs = setting.tables(cell.task, tokenizer)
    evaluated = evaluation if args.eval_strategy != "no" else None
    trainer = ForesightTrainer(model=model, args=args, train_dataset=train, eval_dataset=evaluated,
                               contrast_dataset=pairs, processing_class=tokenizer)  # fmt: skip
    watched = [_watched(cell.task, evaluation, pairs, trainer)]
    for name in track.also or []:
        if name != cell.task:
            watched.append(_watched(name, *setting.tables(name, tokenizer)[1:], trainer))
    info = {**cell.names, "model": model.config._name_or_path, "learning_rate": args.learning_rate}
    tracker = Tracker(trainer, watched, track, {**info, "budget": args.budget, "policy": args.policy})
    trainer.add_callback(tracker)
    if len(setting.cells()) > 1:
        trainer.remove_callback(PrinterCallback)  # the study has its own progress bar
    output = folder / RUN
    resume = checkpoint.last_complete(output)
    if resume is None:
        shutil.rmtree(output, ignore_errors=True)
    trainer.train(resume_from_checkpoint=str(resume) if resume else None)
    recording, probes = tracker.recording, {one.name: one.probe for one in watched}
    scores = {name: recording.magnitudes(name, recording.head.scorers[0])[-1] for name in probes}
    found: Rows = {}
    if track.conflict and 2 <= len(watched) <= MOST_TASKS:
        found = conflict_rows(trainer.model, trainer.table, probes, scores, tracker.circuit)
    if track.curves:
        found["curves"] = curve_rows(trainer.model, trainer.table, probes, scores)
    write_sealed(folder / MEASURED, found)
    if not track.keep_models:
        shutil.rmtree(output / "delta")
    metrics, trainable = recording.metrics(recording.steps[-1]).tasks, trainer.bank.vectors.numel()
    seconds = tracker.seconds, tracker.tracking_seconds, tracker.replay_seconds
    return Measures(metrics, trainer.state.global_step, *seconds, trainable)


def measure_base(folders: dict[str, Path], setting: Setting) -> Rows:
    """Conflicts and faithfulness on the base model, for the circuits that the tasks' runs had at step 0; `folders` has
    the folder of a finished cell that trained on each task.
    """
    model, tokenizer = setting.load()
    track, args, scores, k = setting.track, setting.training, {}, 1
    probes: dict[str, Probe] = {}
    for name, folder in folders.items():
        recording = recording_of(folder)
        pairs = setting.tables(name, tokenizer)[2]
        if pairs is None:
            return {}  # without contrast pairs, each run's probe is its own training text
        probes[name] = ContrastProbe.from_dataset(pairs, tokenizer, *whole_probe(args))
        scores[name], k = recording.magnitudes(name, recording.head.scorers[0])[0], recording.head.circuit
    table = component_table(model, args.mlp_block)
    found: Rows = {}
    if track.conflict and len(probes) > 1:
        found = conflict_rows(model, table, probes, scores, k, args.budget if track.edges_every else 0.0)
    if track.curves:
        found["curves"] = curve_rows(model, table, probes, scores)
    return found


def _arguments(cell: Cell, folder: Path, setting: Setting) -> ForesightConfig:
    """The study's training settings, with the cell's own folder, policy, seeds and learning rate."""
    args = copy.copy(setting.training)
    args.output_dir = str(folder / RUN)
    args.disable_tqdm = args.disable_tqdm or len(setting.cells()) > 1
    args.policy = STRATEGIES.get(cell.strategy, cell.strategy)
    args.seed = args.data_seed = args.mask_seed = cell.seed
    args.learning_rate = setting.track.rates().get(cell.strategy, args.learning_rate)
    return args


def _watched(name: str, evaluation: Dataset | None, pairs: Dataset | None, trainer: ForesightTrainer) -> Watched:
    args, probe = trainer.args, None
    if pairs is not None:
        probe = ContrastProbe.from_dataset(pairs, trainer.processing_class, *whole_probe(args))
    if evaluation is not None and not isinstance(evaluation[0].get("prompt"), str):
        evaluation = None  # conversations and plain text have no single answer that could be right
    text = probe or TextProbe.from_dataset(trainer.train_dataset, *whole_probe(args))
    return Watched(name, text, evaluation, None if name == OWN else task(name).correct)
