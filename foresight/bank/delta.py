"""The delta: every vector or weight that a run changed, as a small file that any copy of the base model can take.

    delta.safetensors   for each touched Linear: <module>.index int64 [k] and <module>.values float32 [k, length]
    delta.json          the unit, the base model's name and hash, the component table's hash, the step

The unit is "vectors", of length d_model: row vectors are rows of the Linear's [out, in] weight, column vectors its
columns, whatever way the module stores it. Or it is "weights", of length 1: index counts the entries of the weight as
it is stored, row by row.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ..common.errors import CheckpointError
from ..common.files import write_json, write_whole
from ..model.finer import numbering_of
from ..model.numbering import Numbering
from ..model.placement import Placement
from .base_weights import digest, fingerprint, write_vectors

WEIGHTS, INFO = "delta.safetensors", "delta.json"


def write_delta(folder: str | Path, table: Numbering, ids: Tensor, values: Tensor, info: dict[str, Any]) -> None:
    """Write vectors `ids` (int64 [m], sorted) with fp32 `values` [m, length]; `info` needs model and base_hash."""
    tensors = {}
    for target, part in table.by_target(ids):
        tensors[f"{target.module}.index"] = ids[part] - target.offset
        tensors[f"{target.module}.values"] = values[part].contiguous()
    folder = Path(folder)
    write_whole(folder / WEIGHTS, lambda path: save_file(tensors, path))
    write_json(folder / INFO, {"version": 1, "unit": table.unit, "table": table.hash, "vectors": len(ids), **info})


def read_info(folder: str | Path) -> dict[str, Any]:
    """The delta's JSON part. Raises CheckpointError if it cannot be read."""
    try:
        return json.loads((Path(folder) / INFO).read_text())
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{folder} holds no readable delta ({error})") from error


def require_base(folder: str | Path, info: dict[str, Any], found: str) -> None:
    """Raise CheckpointError unless `found` is the hash of the weights that `info` belongs to."""
    if found != info["base_hash"]:
        raise CheckpointError(
            f"{folder} changes {info['model']} (weights {info['base_hash']}), but this model's weights are {found}; "
            "load that model, in the dtype it was trained in"
        )


@torch.no_grad()
def apply_delta(model: nn.Module, folder: str | Path) -> nn.Module:
    """Write a delta into a plain Hugging Face model, in place, and return it.

    Raises:
        CheckpointError: the delta is unreadable, or was made from other weights than the model has.
    """
    table = table_of(folder, model)
    try:
        tensors = load_file(Path(folder) / WEIGHTS)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{folder}: {error}") from error
    for target in table.targets:
        if (index := tensors.get(f"{target.module}.index")) is not None:
            module = model.get_submodule(target.module)
            write_vectors(module.weight.data, module, target.axis, index, tensors[f"{target.module}.values"])
    return model


def table_of(folder: str | Path, model: nn.Module) -> Numbering:
    """The table of a delta's ids, after making sure that it belongs to the model's weights as they are now."""
    info, here = read_info(folder), Placement()
    require_base(folder, info, digest(fingerprint(model, here), here))
    return numbering_of(model, info.get("unit", "vectors"))
