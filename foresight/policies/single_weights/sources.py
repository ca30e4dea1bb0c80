"""Maps of movement from what users have: a run, a delta, an adapter, a checkpoint, or a map that was made of one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from ...bank.movement import movement
from ...common.errors import DataError
from ...forecasters.single_weights.margins import Map, Margins, is_map, read_map
from ...masks.weight_selection import Best
from ...model.numbering import Numbering

KNOWN = 0.01
"""Share of all weights, the farthest ones, whose movement a map knows one by one: more than a mask of single weights
usually has."""


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


def map_of(source: str | Path, model: nn.Module, table: Numbering) -> Map:
    """What a source tells of every matrix in a table.

    Single weights are known of runs that could move all of them: not of masked runs, and not of adapters, whose
    largest entries are an artefact of their rank.

    Args:
        source: a file by `write_map`, or whatever `movement` reads.

    Raises:
        DataError: a map of another model; CheckpointError: as `movement`.
    """
    if Path(source).is_file():
        return _read(source, shapes_of(model, table))
    moved = movement(source, model)
    margins: dict[str, Margins] = {}
    farthest = Best(int(KNOWN * table.n_vectors))
    for target in table.targets:
        distance = moved(target)
        if moved.free == "a mask":
            rows, columns = distance.nonzero(as_tuple=True)
            seen = distance[rows, columns]
            margins[target.module] = Margins.of_sample(seen, rows, columns, (distance.shape[0], distance.shape[1]))
            continue
        margins[target.module] = Margins.of(distance)
        if moved.free == "every weight":
            farthest.add(torch.arange(target.offset, target.offset + distance.numel()), distance.flatten())
    if not any(one.rows.any() for one in margins.values()):
        raise DataError(f"{source} has moved no weight of the model; nothing can be learned from it")
    if moved.free != "every weight":
        return Map(margins)
    ids, distances = farthest.found()
    order = ids.argsort()
    ids, distances = ids[order], distances[order]
    known = {t.module: (ids[part] - t.offset, distances[part]) for t, part in table.by_target(ids)}
    return Map(margins, known, float(distances.min()))


def _read(source: str | Path, shapes: dict[str, tuple[int, int]]) -> Map:
    found = read_map(Path(source))
    of = {module: (len(one.rows), len(one.columns)) for module, one in found.margins.items()}
    if of != shapes:
        wrong = next(module for module in [*shapes, *of] if of.get(module) != shapes.get(module))
        raise DataError(
            f"{source} is a map of another model: {wrong} has shape {of.get(wrong, 'none')} there and "
            f"{shapes.get(wrong, 'none')} here"
        )
    return found
