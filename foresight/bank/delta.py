"""The delta: every vector or weight that a run changed, as a small file that any copy of the base model can take (see
`apply_delta`).

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

from safetensors.torch import save_file
from torch import Tensor

from ..common.errors import CheckpointError
from ..common.files import write_json, write_whole
from ..model.numbering import Numbering

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
