"""What can be told of a command before torch is imported: names, values, and files that are not there.

Each function reads what its command is given and returns it, or raises ConfigError (DataError for data) in well under a
second. What depends on the contents of models and data is checked later, where those are read.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..common.errors import ConfigError, DataError, UnknownNameError, did_you_mean, one_of
from ..common.files import missing
from ..model.model_config import ModelConfig
from ..model.shipped import SHIPPED
from ..tasks import DATA_TASKS, TASKS
from ..tasks.data_config import DataConfig
from .building import build
from .fields import command_settings, trl_settings
from .settings import parse, read

if TYPE_CHECKING:
    from ..studies.compare.settings import CompareConfig
    from ..studies.evidence.settings import EvidenceConfig

_TASKS = (*TASKS, *DATA_TASKS)


def train(recipe: str | None, flags: Sequence[str]) -> dict[str, Any]:
    """The values by name for a training run, the defaults left out."""
    values = read(recipe, flags, command_settings("train"))
    _check_run(values)
    _check_data(values)
    build(DataConfig, values).check_source()
    _check_output(values)
    if values.get("dataset") and not values.get("model"):
        raise ConfigError("no model is named, and the shipped one knows only the words of generated tasks; set model")
    if values.get("deepspeed") and values.get("from_config"):
        raise ConfigError("from_config starts in one process only; save the random model first, then train that folder")
    return values


def preview(recipe: str | None, flags: Sequence[str]) -> dict[str, Any]:
    """The values for a look at the rows: those of the run, without what only training needs."""
    found = train(recipe, flags)
    left_out = ("deepspeed", "report_to", "push_to_hub", "bf16", "bf16_full_eval")
    return {name: value for name, value in found.items() if name not in left_out} | {"use_cpu": True, "bf16": False}


def plan(recipe: str | None, flags: Sequence[str]) -> dict[str, Any]:
    """The values for a dry run, which reads no data. The machine that plans need not be the one that trains."""
    values = read(recipe, flags, command_settings("plan")) | {"use_cpu": True}
    _check_run(values)
    return values


def track(recipe: str | None, flags: Sequence[str]) -> dict[str, Any]:
    """The values for a study."""
    from ..studies.track.settings import TrackConfig

    values = read(recipe, flags, command_settings("track"))
    for name, remedy in (
        ("policy", "strategies says how masks are chosen"),
        ("deepspeed", "tracking runs in one process without it"),
    ):
        if values.get(name):
            raise ConfigError(f"{name} is {values[name]!r}, which track does not take: {remedy}")
    _check_files("sources", build(TrackConfig, values).places().values())
    _check_run(values)
    _check_data(values)
    return values


def compare(recipe: str | None, flags: Sequence[str]) -> CompareConfig:
    """The settings of a comparison."""
    from ..forecasters import REGISTRY
    from ..studies.compare.settings import CompareConfig

    config: CompareConfig = parse(recipe, flags, (CompareConfig,))[0]
    REGISTRY.check_name(config.forecaster)
    for name in config.models:
        check_model(name)
    _check_files("sources", dict(config.sources or {}).values())  # type: ignore[arg-type]  # parsed by now
    _check_training(config.training, command_settings("train"))  # type: ignore[arg-type]
    return config


def evidence(recipe: str | None, flags: Sequence[str]) -> EvidenceConfig:
    """The settings of a study of evidence."""
    from ..studies.evidence.settings import EvidenceConfig

    config: EvidenceConfig = parse(recipe, flags, (EvidenceConfig,))[0]
    check_model(config.model)
    _check_training(config.training, trl_settings("DPOConfig"))  # type: ignore[arg-type]  # parsed by now
    return config


def check_model(name: str | None) -> None:
    """Refuse a model folder that is not there or has no config.json; what may be on the Hub passes."""
    if name is None or name == SHIPPED:
        return
    if missing(name):
        raise ConfigError(
            f"model {name}: expected a local folder with a config.json, or the name of a model on the Hub"
        )
    if Path(name).is_dir() and not (Path(name) / "config.json").is_file():
        raise ConfigError(f"model {name}: the folder has no config.json; expected a Hugging Face model folder")


def check_forecasters(names: Iterable[str], of_scores: bool = False) -> None:
    """Refuse names that no forecaster has, and with `of_scores` also those that forecast from weights."""
    from ..forecasters import FROM_WEIGHTS, REGISTRY

    for name in names:
        if of_scores or name not in FROM_WEIGHTS:
            REGISTRY.check_name(name)


def check_folders(what: str, folders: Iterable[str]) -> None:
    """Refuse places that are not there, with the names of the commands that make such."""
    for folder in folders:
        if not Path(folder).exists():
            raise ConfigError(f"{folder} does not exist; expected {what}")


def _check_run(values: Mapping[str, Any]) -> None:
    """Refuse settings that no training run can use, and files of theirs that are not there."""
    from ..forecasters import REGISTRY as FORECASTERS
    from ..policies.targets.registry import REGISTRY as TARGETS
    from ..scoring import SCORERS
    from ..training.checks import check_settings, check_trainer
    from ..training.settings import MaskSettings

    model, mask = build(ModelConfig, values), build(MaskSettings, values)
    check_settings(mask)
    check_trainer(values)
    one_of("scorer", mask.scorer, ("auto", *SCORERS))
    FORECASTERS.check_name(mask.forecaster)
    TARGETS.check_name(mask.target)
    if values.get("trust_remote_code"):
        raise ConfigError("trust_remote_code is True; set it to false: foresight runs stock transformers models only")
    if values.get("model_init_kwargs"):
        raise ConfigError("model_init_kwargs is not used; set model, model_revision and dtype instead")
    check_model(model.model)
    if model.tokenizer and (problem := missing(model.tokenizer)):
        raise ConfigError(f"tokenizer cannot be loaded: {problem}; set `tokenizer` to a folder or Hub name")
    _check_local("history", mask.history or (), "a trajectory folder of a past run")
    params = dict(mask.policy_params or {})  # type: ignore[arg-type]  # parsed by now
    for name in ("oracle_trajectory", "mask_schedule", "movement_from"):
        if params.get(name):
            _check_local(f"policy_params.{name}", (params[name],), "a file or folder that a run wrote")
    listed = params.get("maps") or ()
    places = (listed,) if isinstance(listed, str) else listed
    _check_local(
        "policy_params.maps", places, "run folders, deltas, adapters, checkpoints or files by `foresight maps`"
    )
    for name in ("deepspeed", "resume_from_checkpoint"):
        if isinstance(text := values.get(name), str) and not text.lstrip().startswith("{") and missing(text):
            _check_local(name, (text,), "a file, or a mapping" if name == "deepspeed" else "a checkpoint folder")


_LOGGERS = "wandb tensorboard mlflow comet_ml clearml neptune dvclive swanlab trackio codecarbon".split()
"""What report_to can name; each takes a package of that name."""


def _check_output(values: Mapping[str, Any]) -> None:
    """Refuse an output_dir that cannot be written to, loggers that are not installed, and the Hub while it is off."""
    output = Path(values.get("output_dir") or ".").absolute()
    there = next(place for place in (output, *output.parents) if place.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        what = "is no folder" if not there.is_dir() else "may not be written to"
        raise ConfigError(f"output_dir is {str(output)!r}, but {there} {what}; name another one")
    given = values.get("report_to") or ()
    for name in (given,) if isinstance(given, str) else given:
        if name in _LOGGERS and find_spec(name) is None:
            raise ConfigError(f"report_to is {name!r}, which is not installed; install it, or set report_to to none")
    if values.get("push_to_hub") and os.environ.get("HF_HUB_OFFLINE", "0").upper() in ("1", "ON", "YES", "TRUE"):
        raise ConfigError("push_to_hub is true, but HF_HUB_OFFLINE turns the Hub off; unset one of them")


def _check_data(values: Mapping[str, Any]) -> None:
    data = build(DataConfig, values)
    if data.task and data.task not in _TASKS and not Path(data.task).exists():
        raise UnknownNameError("task", data.task, _TASKS)
    _check_files("data", (data.dataset, data.eval_dataset, data.contrast, *data.shares()))
    if data.retained not in _TASKS:
        _check_files("data", (data.retained,))


def _check_training(given: Mapping[str, Any] | None, known: Mapping[str, Any]) -> None:
    for name in given or {}:
        if name not in known:
            raise ConfigError(
                f"training has the unknown setting {name!r}{did_you_mean(name, known)}; `foresight train --settings "
                "trl` lists those of TRL"
            )


def _check_files(what: str, sources: Iterable[str | None]) -> None:
    for source in sources:
        if source and (problem := missing(source)):
            raise DataError(f"{what}: {problem}")


def _check_local(name: str, places: Iterable[str], expected: str) -> None:
    for place in places:
        if not Path(place).exists():
            raise ConfigError(f"{name} is {place!r}, which does not exist; expected {expected}")
