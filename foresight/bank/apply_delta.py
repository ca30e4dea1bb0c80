"""What a delta does to a copy of its base model: its weights are written into it, or compared with it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from ..common.errors import CheckpointError
from ..model.numbering import Numbering, Target
from ..model.placement import Placement
from ..model.weight_table import numbering_of
from .base_weights import as_vectors, write_vectors
from .delta import INFO, WEIGHTS, read_info, require_base
from .fingerprint import digest, fingerprint


@torch.no_grad()
def apply_delta(model: nn.Module, folder: str | Path) -> nn.Module:
    """Write a delta into a plain Hugging Face model, in place, and return it.

    Raises:
        CheckpointError: the delta is unreadable, or was made from other weights than the model has.
    """
    table = _numbering(folder, model)
    try:
        tensors = load_file(Path(folder) / WEIGHTS)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{folder}: {error}") from error
    for target in table.targets:
        if (index := tensors.get(f"{target.module}.index")) is not None:
            module = model.get_submodule(target.module)
            write_vectors(module.weight.data, module, target.axis, index, tensors[f"{target.module}.values"])
    return model


def movement(run: str | Path, model: nn.Module) -> Callable[[Target], Tensor | None]:
    """How far a run of this model has moved each weight: of a target, float32 in the shape of its stored weight.

    It is |theta_T - theta|, theta being what the model's weights are when it is asked; None for an untouched target.
    One matrix is read from the file at a time.

    Args:
        run: the output folder of a finished run, or a delta.

    Raises:
        CheckpointError: no readable delta there, or one of other weights than the model has.
    """
    folder = Path(run) if (Path(run) / INFO).exists() else Path(run) / "delta"
    table = _numbering(folder, model)

    def moved(target: Target) -> Tensor | None:
        name, axis = target.module, table.target_of[target.module].axis
        try:
            with safe_open(folder / WEIGHTS, "pt") as file:
                if f"{name}.index" not in file.keys():  # noqa: SIM118 (it is no mapping)
                    return None
                index, values = file.get_tensor(f"{name}.index"), file.get_tensor(f"{name}.values")
        except (OSError, SafetensorError) as error:
            raise CheckpointError(f"{folder}: {error}") from error
        module = model.get_submodule(name)
        weight, result = module.weight.detach(), torch.zeros(module.weight.shape)
        before = as_vectors(weight, module, axis)[index.to(weight.device)].float().cpu()
        write_vectors(result, module, axis, index, (values - before).abs())
        return result

    return moved


def _numbering(folder: str | Path, model: nn.Module) -> Numbering:
    """The table of a delta's ids, after making sure that it belongs to the model's weights as they are now."""
    info, here = read_info(folder), Placement()
    require_base(folder, info, digest(fingerprint(model, here), here))
    return numbering_of(model, info.get("unit", "vectors"))
