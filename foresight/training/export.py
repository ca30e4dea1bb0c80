"""Export of a run: a merged model folder for plain transformers, or the delta alone."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from ..errors import CheckpointError, ConfigError, one_of
from .delta import INFO, WEIGHTS, apply_delta, read_info

FORMS = ("merged", "delta")


def export(run: str | Path, to: str, out: str | Path) -> Path:
    """Write what a finished run has learned to `out` and return it.

    Args:
        run: the run's output folder (or its delta folder).
        to: "merged", a model folder that `AutoModelForCausalLM.from_pretrained` loads; or "delta", the changed vectors.
        out: a new or empty folder.

    Raises:
        ConfigError: unknown form, or `out` holds files.
        CheckpointError: no finished run there, or its base model has changed or cannot be loaded.
    """
    run, out = Path(run), Path(out)
    one_of("export form", to, FORMS)
    if out.exists() and any(out.iterdir()):
        raise ConfigError(f"{out} is not empty; name a new folder")
    delta = run if (run / INFO).exists() else run / "delta"
    if not (delta / INFO).exists():
        raise CheckpointError(
            f"{run} holds no finished run (no {delta / INFO}); finish it with `foresight train --resume`, or name "
            "the output_dir of one that is"
        )
    info = read_info(delta)
    if to == "delta":
        out.mkdir(parents=True, exist_ok=True)
        for name in (WEIGHTS, INFO):
            shutil.copyfile(delta / name, out / name)
        return out
    model = _base_model(info)
    apply_delta(model, delta).save_pretrained(out)
    tokenizer = run / "tokenizer"
    if tokenizer.is_dir():
        shutil.copytree(tokenizer, out, dirs_exist_ok=True)
    return out


def _base_model(info: dict):
    from transformers import AutoModelForCausalLM

    if not info["model"]:
        raise CheckpointError(
            "the run was started from a model object without a name; load that model yourself and call apply_delta"
        )
    try:
        return AutoModelForCausalLM.from_pretrained(
            info["model"], dtype=info["dtype"], use_safetensors=True, trust_remote_code=False
        )
    except (OSError, ValueError) as error:
        raise CheckpointError(f"the base model {info['model']} cannot be loaded: {json.dumps(str(error))}") from error
