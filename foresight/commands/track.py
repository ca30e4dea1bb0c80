"""`foresight track`: a recipe becomes a study of how circuits evolve."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import partial
from math import isnan
from pathlib import Path
from typing import Any

from datasets import disable_progress_bars
from rich.table import Table
from transformers.utils import logging

from ..common.console import console
from ..common.errors import ConfigError
from ..common.sealed import read_sealed
from ..model.loading import load_model, load_tokenizer
from ..model.model_config import ModelConfig
from ..report.tracking import write_report
from ..studies.track.analysis import analyse
from ..studies.track.cells import Setting
from ..studies.track.settings import TrackConfig
from ..studies.track.study import STUDY, Study, run_study
from ..studies.track.tables import Tables
from ..studies.track.words import sentences
from ..tasks import TASKS, task
from ..tasks.data_config import DataConfig
from ..training.config import ForesightConfig
from .fields import settings_of
from .settings import build, changed, plain, show


def run(values: Mapping[str, Any], out: str | None, resume: bool) -> None:
    """Run or continue the study in the folder `out` (by default output_dir), write its report, print what it says."""
    track, data = build(TrackConfig, values), build(DataConfig, values)
    settings, args = build(ModelConfig, values), build(ForesightConfig, values)
    folder = out or args.output_dir
    setting = Setting(track, data, args, partial(load, settings, args.seed))
    names = {*(cell.task for cell in setting.cells()), *(track.also or [])} & {*TASKS}
    tokenizer = load_tokenizer(settings) if names else None
    for name in sorted(names):
        task(name).examples(tokenizer, "train", 1)  # refuses a task that the tokenizer cannot spell before any runs
    if len(setting.cells()) > 1:  # the study has a bar of its own
        disable_progress_bars()
        logging.disable_progress_bar()
    show(changed(settings, data, track, args))
    everything = {"model": plain(settings), "data": plain(data), "track": plain(track), "training": plain(args)}
    try:
        study = run_study(folder, setting, everything, resume, console())
    except KeyboardInterrupt:
        print(f"interrupted: continue with the same command, --out {folder} and --resume", file=sys.stderr)
        raise
    answers = analyse(study)
    page = write_report(folder)
    console().print(_summary(study, answers))
    for sentence in sentences(answers):
        console().print(f"- {sentence}", markup=False)
    print(f"report: {page.resolve()}")


def load(settings: ModelConfig, seed: int):
    """Model and tokenizer, also in a worker process."""
    return load_model(settings, seed), load_tokenizer(settings)


def reopen(folder: str | Path) -> Setting:
    """The setting of the study in a folder, as it was run.

    Raises:
        ConfigError: no study there, or one with settings that this foresight does not have.
    """
    try:
        stored = read_sealed(Path(folder) / STUDY)

        def made(cls: type, part: str) -> Any:
            return cls(**{name: value for name, value in stored[part].items() if name in settings_of(cls)})

        args = made(ForesightConfig, "training")
        loading = partial(load, made(ModelConfig, "model"), args.seed)
        return Setting(made(TrackConfig, "track"), made(DataConfig, "data"), args, loading)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{folder} holds no study that can be opened again ({error!r})") from error


def _summary(study: Study, answers: Tables) -> Table:
    """How far circuits had moved at each step, of the first scorer, by strategy."""
    table = Table(title="Circuit distance from step 0 (Jaccard)", title_justify="left")
    table.add_column("strategy")
    for column in ("step", "distance", "floor: halves", "floor: runs", "movement alone", "step-0 map holds"):
        table.add_column(column, justify="right")
    stale = {(row["strategy"], row["scorer"], row["step"]): row for row in answers["staleness"]}
    for row in answers["moves"]:
        if (row["scorer"], row["kind"], row["measure"]) != (answers["moves"][0]["scorer"], "all", "jaccard"):
            continue
        held = stale[row["strategy"], row["scorer"], row["step"]]["held"]
        low, high = row["interval_low"], row["interval_high"]
        interval = "" if low is None else f" [{low:+.2f}, {high:+.2f}]"
        floors = f"{row['floor']:.2f}", "-" if isnan(row["between_runs"]) else f"{row['between_runs']:.2f}"
        numbers = f"{row['distance']:.2f}", *floors, f"{row['mean']:+.2f}{interval}"
        table.add_row(row["strategy"], str(row["step"]), *numbers, "-" if isnan(held) else f"{held:.0%}")
    table.caption = f"{len(study.results)} runs; tables and recordings in {study.folder}"
    return table
