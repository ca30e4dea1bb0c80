"""The delta: every vector or weight that a run changed, as a small file that any copy of the base model can take.

    delta.safetensors   for each touched Linear: <module>.index int64 [k] and <module>.values float32 [k, length]
    delta.json          version, unit, sha256 of delta.safetensors, the base model's name, dtype and hash, checksums of
                        those of its tensors that are changed and of the tokenizer's files, the component table's hash,
                        the number of vectors, the step

The unit is "vectors", of length d_model: row vectors are rows of the Linear's [out, in] weight, column vectors its
columns, whatever way the module stores it. Or it is "weights", of length 1, or "pieces of rows", of a length that all
rows are multiples of: index counts the entries, or pieces, of the weight as it is stored, row by row.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from ..common.errors import CheckpointError
from ..common.files import sha256, write_whole
from ..common.sealed import read_sealed, write_sealed
from ..model.numbering import Numbering, Target
from ..model.placement import Placement
from ..model.weight_table import numbering_of
from .base_weights import digest, fingerprint, write_vectors

WEIGHTS, INFO = "delta.safetensors", "delta.json"
VERSION = 2
_log = logging.getLogger(__name__)


def write_delta(
    folder: str | Path,
    table: Numbering,
    ids: Tensor,
    values: Tensor,
    info: dict[str, Any],
    base: Mapping[str, int] | None = None,
) -> None:
    """Write vectors `ids` (int64 [m], sorted) with fp32 `values` [m, length].

    Args:
        info: model, base_hash, and what else is to be said; base: checksums of the base's tensors, by name.
    """
    tensors = {}
    for target, part in table.by_target(ids):
        tensors[f"{target.module}.index"] = ids[part] - target.offset
        tensors[f"{target.module}.values"] = values[part].contiguous()
    folder = Path(folder)
    write_whole(folder / WEIGHTS, lambda path: save_file(tensors, path))
    known: dict[str, Any] = {"version": VERSION, "unit": table.unit, "table": table.hash, "vectors": len(ids)}
    if base is not None:
        changed = dict.fromkeys(f"{name.rpartition('.')[0]}.weight" for name in tensors)
        known["tensors"] = {name: base[name] for name in changed}
    write_sealed(folder / INFO, known | {"sha256": sha256(folder / WEIGHTS)} | info)


def read_info(folder: str | Path) -> dict[str, Any]:
    """The delta's JSON part. Raises CheckpointError if it cannot be read, or is of another version."""
    try:
        info = read_sealed(Path(folder) / INFO)
        version, missing = info["version"], {"model", "base_hash", "table", "vectors"} - set(info)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise CheckpointError(f"{Path(folder) / INFO} cannot be read ({error!r})") from error
    if version not in (1, VERSION) or missing:
        what = f"lacks {', '.join(sorted(missing))}" if missing else f"has version {version!r}"
        raise CheckpointError(f"{Path(folder) / INFO} {what}; this foresight reads deltas of versions 1 and {VERSION}")
    return info


def opened(folder: str | Path, info: dict[str, Any]) -> Any:
    """The delta's tensors, as `safe_open` gives them. Raises CheckpointError unless `info` is of them."""
    path = Path(folder) / WEIGHTS
    try:
        if "sha256" in info:
            if sha256(path) != info["sha256"]:
                raise CheckpointError(f"{path} is damaged: its checksum differs from that in {INFO}")
        elif info["version"] != 1:
            raise CheckpointError(f"{Path(folder) / INFO} lacks the checksum of {WEIGHTS}")
        else:
            _log.warning("%s was written without a checksum and is taken as it is", path)
        return safe_open(path, "pt")
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path}: {error}") from error


def require_base(folder: str | Path, info: dict[str, Any], model: nn.Module) -> None:
    """Raise CheckpointError unless the weights that `info` belongs to are those of the model, as they are now.

    The hash of version 1 did not see their order.
    """
    here, known = Placement(), info.get("tensors", {})
    prints = fingerprint(model, here, ordered=info.get("version") != 1)
    if (found := digest(prints, here)) != info["base_hash"]:
        differ = [name for name in known if prints.get(name) != known[name]]
        first = f"; of {len(known)} tensors that it changes {len(differ)} differ, first {differ[0]}" if differ else ""
        raise CheckpointError(
            f"{folder} changes {info['model']} (weights {info['base_hash']}), but this model's weights are {found}"
            f"{first}; load that model, in the dtype it was trained in"
        )


@torch.no_grad()
def apply_delta(model: nn.Module, folder: str | Path) -> nn.Module:
    """Write a delta into a plain Hugging Face model, in place, and return it. Raises CheckpointError as `Delta`."""
    for target, index, values in list(Delta(folder, model)):  # nothing is written before all of it has been checked
        module = model.get_submodule(target.module)
        write_vectors(module.weight.data, module, target, index, values)
    return model


class Delta:
    """A delta on disk, checked against the model that it changes; iterating reads one Linear at a time, in the order of
    its `table`. `info` is its JSON part.

    Raises:
        CheckpointError: damaged, forged, or made from other weights than the model has; also while it is iterated over.
    """

    def __init__(self, folder: str | Path, model: nn.Module):
        self.folder = Path(folder)
        self.info = read_info(folder)
        self._file = opened(folder, self.info)
        require_base(folder, self.info, model)
        self.table: Numbering = numbering_of(model, self.info.get("unit", "vectors"))
        keys = {f"{t.module}.{part}" for t in self.table.targets for part in ("index", "values")}
        if unknown := sorted(set(self._file.keys()) - keys):
            raise CheckpointError(f"{folder} has {unknown[0]}, which this model does not have")

    def __iter__(self) -> Iterator[tuple[Target, Tensor, Tensor]]:
        """Yield a target, the places of its changed vectors, int64 [k], and their values, float32 [k, length]."""
        found = 0
        for target in self.table.targets:
            if (vectors := self.of(target)) is not None:
                found += len(vectors[0])
                yield target, *vectors
        if found != self.info["vectors"]:
            raise CheckpointError(f"{self.folder} has {found} vectors, and {INFO} says {self.info['vectors']}")

    def of(self, target: Target) -> tuple[Tensor, Tensor] | None:
        """Places and values of one target's vectors; None if it is untouched."""
        names = [f"{target.module}.{part}" for part in ("index", "values")]
        missing = [name for name in names if name not in self._file.keys()]  # noqa: SIM118 (it is no mapping)
        if missing == names:
            return None
        if missing:
            raise CheckpointError(f"{self.folder}: {missing[0]} is missing")
        index, values = (self._file.get_tensor(name) for name in names)
        length = self.table.d_model
        sorted_within = index.dtype == torch.int64 and index.dim() == 1 and bool((index.diff() > 0).all())
        if not sorted_within or not len(index) or index[0] < 0 or index[-1] >= target.n:
            raise CheckpointError(f"{self.folder}: {names[0]} has to ascend from 0 to at most {target.n - 1}")
        if values.dtype != torch.float32 or values.shape != (len(index), length) or not values.isfinite().all():
            raise CheckpointError(f"{self.folder}: {names[1]} has to be finite float32 [{len(index)}, {length}]")
        return index, values
