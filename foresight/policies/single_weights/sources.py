"""Maps of margins from what users have: a run, a delta, an adapter, a checkpoint, or a map that was made of one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import nn

from ...bank.movement import movement
from ...common.errors import DataError
from ...forecasters.single_weights.margins import Margins, is_map, read_map
from ...model.numbering import Numbering


def shapes_of(model: nn.Module, table: Numbering) -> dict[str, tuple[int, int]]:
    """The shape of the stored weight of every matrix in a table, by module."""
    return {t.module: tuple(model.get_submodule(t.module).weight.shape) for t in table.targets}


def spread(sources: Sequence[str]) -> list[str]:
    """The sources; a folder of maps stands for all of them, in the order of their names."""
    found: list[str] = []
    for source in sources:
        files = sorted(Path(source).glob("*.safetensors")) if Path(source).is_dir() else []
        found += [str(file) for file in files] if files and all(is_map(file) for file in files) else [source]
    return found


def map_of(source: str | Path, model: nn.Module, table: Numbering) -> dict[str, Margins]:
    """The margins of every matrix in a table.

    Args:
        source: a file by `write_map`, or whatever `movement` reads.

    Raises:
        DataError: a map of another model; CheckpointError: as `movement`.
    """
    shapes = shapes_of(model, table)
    if Path(source).is_file():
        found = read_map(Path(source))
        of = {module: (len(one.rows), len(one.columns)) for module, one in found.items()}
        if of != shapes:
            wrong = next(module for module in [*shapes, *of] if of.get(module) != shapes.get(module))
            raise DataError(
                f"{source} is a map of another model: {wrong} has shape {of.get(wrong, 'none')} there and "
                f"{shapes.get(wrong, 'none')} here"
            )
        return found
    moved = movement(source, model)
    found = {target.module: Margins.of(moved(target)) for target in table.targets}
    if not any(float(one.rows.sum()) > 0 for one in found.values()):
        raise DataError(f"{source} has moved no weight of the model; nothing can be learned from it")
    return found
