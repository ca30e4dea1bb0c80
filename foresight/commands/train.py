"""`foresight train`: a recipe becomes a run."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.table import Table
from transformers import TrainerCallback

from ..common.console import console
from ..common.errors import ConfigError
from ..common.files import write_json
from ..model.loading import load_model, load_tokenizer
from ..model.model_config import ModelConfig
from ..tasks import task
from ..tasks.data_config import DataConfig
from ..tasks.evaluation import HeldOut
from ..tasks.load_data import load_data, load_retained
from ..training import checkpoint
from ..training.config import ForesightConfig
from ..training.trainer import ForesightTrainer
from .settings import build, changed, plain, show
from .telling import Telling


def run(values: Mapping[str, Any], resume: bool, max_hours: float | None = None) -> None:
    """Train with the given settings; with `resume`, from the last complete checkpoint of output_dir.

    After `max_hours` it stops with a checkpoint, as it does at SIGTERM (StoppedError).

    Leaves in output_dir: config.json (every setting), what ForesightTrainer writes, and with `from_config` the random
    base model.
    """
    if max_hours is not None and not max_hours > 0:
        raise ConfigError(f"--max-hours is {max_hours}; expected a number above 0")
    data, settings, args = build(DataConfig, values), build(ModelConfig, values), build(ForesightConfig, values)
    if args.should_save:
        show(changed(settings, data, args))
    output = Path(args.output_dir).resolve()
    tokenizer = load_tokenizer(settings)
    train, evaluation, pairs = load_data(data, tokenizer, args.seed)
    model = load_model(settings, args.seed)
    if settings.from_config:
        model.config._name_or_path = str(output / "base")
    trainer = ForesightTrainer(
        model=model,
        args=args,
        train_dataset=train,
        eval_dataset=evaluation,
        contrast_dataset=pairs,
        retained_dataset=load_retained(data, tokenizer, args.seed),
        processing_class=tokenizer,
    )
    trainer.trained_on = _words(data, len(trainer.train_dataset) if hasattr(trainer.train_dataset, "__len__") else None)
    trainer.stopping.hours = max_hours
    everything = {"model": plain(settings), "data": plain(data), "training": plain(args)}
    trainer.add_callback(_Record(trainer, everything, settings.from_config))
    telling = Telling(trainer)
    try:
        with telling.everything():
            trainer.train(resume_from_checkpoint=resume or args.resume_from_checkpoint)
    except KeyboardInterrupt:
        last = checkpoint.last_complete(output)
        told = f"{last} is complete; continue" if last else "no checkpoint yet; begin anew"
        told = f"{told} with the same command and --resume"
        print(f"interrupted after step {trainer.state.global_step}: {told}", file=sys.stderr)
        raise
    accuracy = _accuracy(trainer, tokenizer, data, evaluation)
    if args.should_save:
        console().print(_summary(trainer, accuracy))


def _words(data: DataConfig, rows: int | None) -> str:
    """The training data, for the model card."""
    parts = [f"task `{data.task}`"] if data.task else [f"`{data.dataset}`", data.dataset_config, data.dataset_split]
    return f"{', '.join(filter(None, parts))}: {'a stream' if rows is None else f'{rows:,} rows'}"


class _Record(TrainerCallback):
    """Writes the settings, and a base model that exists nowhere else, once the run has really begun."""

    def __init__(self, trainer: ForesightTrainer, settings: dict[str, Any], keep_base: bool):
        self.trainer, self.settings, self.keep_base = trainer, settings, keep_base

    def on_train_begin(self, args, state, control, **kwargs):
        if not args.should_save:
            return
        resumed = {"resumed": self.trainer.run.resumed} if self.trainer.run.resumed else {}
        write_json(self.trainer.run.output / "config.json", self.settings | resumed)
        if self.keep_base and state.global_step == 0:
            model, bank = self.trainer.model, self.trainer.bank
            model.save_pretrained(self.trainer.run.output / "base", state_dict=bank.merged_state_dict())


def _accuracy(trainer: ForesightTrainer, tokenizer: Any, data: DataConfig, evaluation: Any) -> dict[str, float]:
    """Accuracy and loss on the evaluation table, if it has prompts and completions in plain text."""
    if evaluation is None or not isinstance(evaluation[0].get("prompt"), str):
        return {}
    correct = task(data.task).correct if data.task else None
    return HeldOut(tokenizer, evaluation, correct=correct).measure(trainer.model)


def _summary(trainer: ForesightTrainer, accuracy: dict[str, float]) -> Table:
    logged = trainer.state.log_history

    def values(key: str) -> list[float]:
        return [entry[key] for entry in logged if key in entry]

    table = Table(title="Run", title_justify="left", show_header=False)
    table.add_row("steps", f"{trainer.state.global_step:,}")
    if losses := values("loss"):
        table.add_row("loss", f"{losses[0]:.4g} first, {losses[-1]:.4g} last")
    for name, value in accuracy.items():
        table.add_row(f"evaluation {name}", f"{value:.4g}")
    share = trainer.bank.vectors.numel() / trainer.table.model_parameters
    table.add_row("budget used", f"{share:.4%} of all parameters, {trainer.bank.vectors.numel():,} weights")
    if churn := values("foresight/churn")[1:]:
        table.add_row("mask churn", f"{sum(churn) / len(churn):.1%} of the mask at each of {len(churn)} re-masks")
    if skill := values("foresight/skill"):
        table.add_row("forecast skill", f"{skill[-1]:+.3f} (0: no better than 'it stays as it is', 1: perfect)")
    if trainer.trajectory is not None and (said := trainer.trajectory.info.get("gate")):
        table.add_row("last decision", said[max(said, key=int)])
    table.add_row("scoring", f"{trainer.remasking.scoring_share():.1%} of the time")
    if (cost := trainer.run.scouting) is not None:
        spent = cost.training_seconds + cost.scoring_seconds
        table.add_row("scout", f"{cost.steps} steps before the run, undone; {spent:.1f} s with their scores")
    if seconds := values("foresight/damage_seconds"):
        table.add_row("measuring damage", f"{seconds[-1]:.1f} s")
    if any(seconds := values("foresight/retained_seconds")):
        table.add_row("writing retained text", f"{seconds[-1]:.1f} s")
    table.add_row("written to", str(trainer.run.output))
    table.add_row("next", f"foresight export {trainer.run.output} --to merged --out DIR")
    return table
