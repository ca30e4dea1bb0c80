"""Export of a run or of one of its checkpoints: a merged model folder for plain transformers, or the delta alone.

What is asked for is checked before torch is imported.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

from ..common.errors import CheckpointError, ConfigError, one_of
from ..common.files import files_sha256


def export(run: str | Path, to: str, out: str | Path) -> Path:
    """Write what a finished run has learned to `out` and return it.

    Args:
        run: the output folder of a finished run (or its delta folder), or a checkpoint of any run, however many
            processes wrote it.
        to: "merged", a model folder that `AutoModelForCausalLM.from_pretrained` loads; or "delta", the changed vectors.
        out: a new or empty folder.

    Raises:
        ConfigError: unknown form, or `out` holds files.
        CheckpointError: no finished run or complete checkpoint there, or a base model that is missing or has changed.
    """
    run, out = Path(run), Path(out)
    one_of("export form", to, ("merged", "delta"))
    if out.exists() and any(out.iterdir()):
        raise ConfigError(f"{out} is not empty; name a new folder")
    if not run.is_dir():
        raise CheckpointError(f"{run} does not exist; name the output_dir of a finished run, or a checkpoint in it")
    from ..bank.delta import INFO
    from . import checkpoint

    if (run / checkpoint.STATE).exists():
        with TemporaryDirectory() as scratch:
            _write_delta_of_checkpoint(run, scratch)
            return _export(Path(scratch), run.parent, to, out)
    delta = run if (run / INFO).exists() else run / "delta"
    if not (delta / INFO).exists():
        last = checkpoint.last_complete(run)
        others = f", export {last}," if last else ""
        raise CheckpointError(
            f"{run} holds no finished run (no {delta / INFO}); finish it with `foresight train --resume`{others} or "
            "name the output_dir of one that is"
        )
    return _export(delta, run, to, out)


def _export(delta: Path, run: Path, to: str, out: Path) -> Path:
    from ..bank.delta import INFO, WEIGHTS, apply_delta, opened, read_info
    from .card import NAME

    info = read_info(delta)
    if to == "delta":
        opened(delta, info)  # whole, and of this run
        out.mkdir(parents=True, exist_ok=True)
        for name in (WEIGHTS, INFO):
            shutil.copyfile(delta / name, out / name)
    else:
        tokenizer = run / "tokenizer"
        if tokenizer.is_dir() and info.get("tokenizer", "") not in ("", files_sha256(tokenizer)):
            raise CheckpointError(
                f"{tokenizer} is not the tokenizer that the run was trained with; put that back, or remove the folder "
                "to export without one"
            )
        apply_delta(_base_model(info), delta).save_pretrained(out)
        if tokenizer.is_dir():
            shutil.copytree(tokenizer, out, dirs_exist_ok=True)
    if (run / NAME).exists():
        shutil.copyfile(run / NAME, out / NAME)
    return out


def _write_delta_of_checkpoint(folder: Path, out: str) -> None:
    """What had changed when a checkpoint was made: the ledger, and the base with the bank's rows added."""
    from ..bank.base_weights import BaseWeights, Ledger
    from ..bank.delta import require_base, write_delta
    from ..model.placement import Placement
    from ..model.weight_table import numbering_of
    from . import checkpoint

    tensors, data = checkpoint.read_state(folder)
    info = {name: data.get(name) for name in ("model", "base_hash", "dtype", "step")}
    model = _base_model(info)
    require_base(folder, data, model)
    table = numbering_of(model, data.get("unit", "vectors"))
    base, ledger = BaseWeights(model, table, Placement()), Ledger(table.d_model)
    info["base_hash"] = base.hash
    ledger.record(tensors["ledger.ids"], tensors["ledger.values"])
    base.write(ledger.ids, ledger.values)
    write_delta(out, table, *base.changed(ledger, tensors["bank.ids"], tensors["bank.vectors"]), info, base.tensors)


def _base_model(info: dict):
    from transformers import AutoModelForCausalLM

    from ..model.loading import UNREADABLE

    if not info["model"]:
        raise CheckpointError(
            "the run was started from a model object without a name; load that model yourself and call apply_delta"
        )
    try:
        return AutoModelForCausalLM.from_pretrained(
            info["model"], dtype=info["dtype"], use_safetensors=True, trust_remote_code=False
        )
    except UNREADABLE as error:
        raise CheckpointError(f"the base model {info['model']} cannot be loaded: {json.dumps(str(error))}") from error
