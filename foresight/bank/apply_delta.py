"""What a delta does to a copy of its base model: its weights are written into it."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from ..common.errors import CheckpointError
from ..model.numbering import Numbering
from ..model.placement import Placement
from ..model.weight_table import numbering_of
from .base_weights import write_vectors
from .delta import WEIGHTS, read_info, require_base
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


def _numbering(folder: str | Path, model: nn.Module) -> Numbering:
    """The table of a delta's ids, after making sure that it belongs to the model's weights as they are now."""
    info, here = read_info(folder), Placement()
    require_base(folder, info, digest(fingerprint(model, here), here))
    return numbering_of(model, info.get("unit", "vectors"))
