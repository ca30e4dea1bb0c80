"""How much each output row and input column of a matrix takes part in a run, and masks that are drawn from it.

A weight's movement is taken for a random variable whose squared scale is (row) x (column). A map keeps these two
vectors per matrix, a few numbers per thousand weights, and may know the farthest weights one by one. A movement drawn
from a map has its farthest weights where those of the run were, as far as the map knows: they are the mask.

A movement's size is taken for a Weibull variable of shape `SHAPE`, and scales are those of fourth moments. Masks drawn
so from full runs of SmolLM2-135M are spread over as many rows and columns as the runs' own farthest weights; a larger
shape crowds them into fewer.

Such factored squares are what Adafactor keeps of gradients (Shazeer & Stern, arXiv 1804.04235). To draw masks from
those of a movement is this project's own.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ...common.errors import DataError
from ...common.sealed import load_sealed, save_sealed

FORMAT = "foresight margins 2"
SHAPE = 2.0
SHRINK = 4.0
"""Observations that the prior of a row or column counts for, where only a sample of its weights has been seen."""
FLOOR = 1e-4
"""Share of the mean squared scale that a row or column has at least: no map may rule one out."""
_TINY = 1e-30
_SECOND, _FOURTH = (math.gamma(1 + moment / SHAPE) for moment in (2, 4))
"""Second and fourth moment of a Weibull variable of scale 1."""


@dataclass(frozen=True)
class Margins:
    """Squared scale of movement by row and column of one matrix, as it is stored: that of a weight is row x column.

    Attributes:
        rows: squared scale of each row, float32 [rows].
        columns: factor of each column, about 1 in the mean, float32 [columns].
    """

    rows: Tensor
    columns: Tensor

    @classmethod
    def of(cls, movement: Tensor) -> Margins:
        """What a movement of all weights tells, float32 [rows, columns] of either sign."""
        fourth = movement.float().square().square()
        columns = fourth.mean(0).sqrt() / fourth.mean().sqrt().clamp(min=_TINY)
        return cls(fourth.mean(1).sqrt() / _FOURTH**0.5, columns)

    @classmethod
    def of_sample(cls, movement: Tensor, rows: Tensor, columns: Tensor, shape: tuple[int, int]) -> Margins:
        """What the movement of some weights tells: float32 [k] of either sign, at rows and columns int64 [k].

        A row that few weights speak for is drawn towards the mean of its matrix: the mean counts as `SHRINK` weights.
        Scales are those of second moments, as fourth ones of a few weights are mostly noise.
        Rows are judged relative to the columns that their weights are in, and columns relative to the rows, once.
        """
        squares = movement.float().square() / _SECOND
        mean = float(squares.mean()) if len(squares) else 0.0
        by_column = _shrunk(squares / max(mean, _TINY), columns, shape[1], 1.0)
        relative = squares / by_column[columns]
        by_row = _shrunk(relative, rows, shape[0], float(relative.mean()) if len(relative) else 0.0)
        return cls(by_row, by_column)


@dataclass(frozen=True)
class Map:
    """What is known of a run's movement.

    Attributes:
        margins: of every matrix, by module.
        farthest: of some matrices the weights that moved farthest in the model: places int64 [k] in the flattened
            matrix, and distances float32 [k].
        least: no other weight has moved farther than that.
    """

    margins: Mapping[str, Margins]
    farthest: Mapping[str, tuple[Tensor, Tensor]] = field(default_factory=dict)
    least: float = math.inf

    def sides(self) -> dict[str, Tensor]:
        """The margins by name in files: module/rows and module/columns."""
        return {f"{m}/{side}": getattr(one, side) for m, one in self.margins.items() for side in ("rows", "columns")}

    @cached_property
    def _floor(self) -> float:
        """The least squared scale of a row."""
        weights = sum(len(one.rows) * len(one.columns) for one in self.margins.values())
        total = sum(float(one.rows.double().sum() * one.columns.double().sum()) for one in self.margins.values())
        return max(_TINY, FLOOR * total / weights)

    def log_drawn(self, module: str, uniform: Tensor) -> Tensor:
        """Logarithm of a movement of a matrix: as it was where it is known, else drawn from the margins.

        Args:
            uniform: random numbers of the weights, float32 [rows, columns] in (0, 1); the same numbers give movements
                that differ only as far as maps do.
        """
        own = self.margins[module]
        rows, columns = own.rows.clamp(min=self._floor).log() / 2, own.columns.clamp(min=FLOOR).log() / 2
        logs = rows[:, None] + columns[None, :]
        if math.isfinite(self.least):  # nothing that is not known has moved farther
            beyond = (math.log(self.least) - logs).mul_(SHAPE).clamp_(max=5).exp_().neg_().exp_()
            uniform = (beyond + (1 - beyond) * uniform).clamp_(max=1 - 1e-7)
        logs += (-uniform.log()).log_().div_(SHAPE)
        if module in self.farthest:
            places, distances = self.farthest[module]
            logs.view(-1)[places] = distances.clamp(min=_TINY).log()
        return logs


def draws(
    maps: Sequence[tuple[float, Map]], targets: Iterable[tuple[str, int]], seed: int
) -> Iterator[tuple[str, Tensor]]:
    """A movement drawn from a mixture of maps, their geometric mean: the n farthest weights are a mask.

    A weight's random number depends on the seed alone, not on the maps: a mask changes only as far as its maps do.

    Args:
        maps: shares, which sum to 1, and maps; targets: module and offset of each matrix.

    Yields:
        A module and the logarithm of its weights' movement, float32 [rows, columns].
    """
    maps = [(share, one) for share, one in maps if share > 0]
    for module, offset in targets:
        own = maps[0][1].margins[module]
        generator = torch.Generator().manual_seed(int(np.random.SeedSequence([seed, offset]).generate_state(1)[0]))
        uniform = torch.rand(len(own.rows), len(own.columns), generator=generator).clamp_(1e-7, 1 - 1e-7)
        yield module, sum(share * one.log_drawn(module, uniform) for share, one in maps)


def write_map(path: Path, found: Map, about: Mapping[str, str]) -> None:
    """Write a map; `about` says what it was made from."""
    tensors = found.sides()
    for module, (places, distances) in found.farthest.items():
        tensors |= {f"{module}/places": places.int(), f"{module}/distances": distances}
    arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
    save_sealed(path, arrays, {"format": FORMAT, "least": repr(found.least), **about})


def is_map(path: Path) -> bool:
    """Whether a file is one of `write_map`."""
    try:
        with safe_open(path, "pt") as file:
            return (file.metadata() or {}).get("format") == FORMAT
    except (OSError, SafetensorError):
        return False


def read_map(path: Path) -> Map:
    """Inverse of `write_map`. Raises DataError for anything else, or a damaged map."""
    if not is_map(path):
        raise DataError(f"{path} is not a map of this version ({FORMAT}); `foresight maps` writes them")
    parts: dict[str, dict[str, Tensor]] = {}
    try:
        arrays, header = load_sealed(path)
        for key, array in arrays.items():
            module, _, side = key.rpartition("/")
            parts.setdefault(module, {})[side] = torch.from_numpy(array)
        margins = {module: Margins(part["rows"], part["columns"]) for module, part in parts.items()}
        farthest = {m: (part["places"].long(), part["distances"]) for m, part in parts.items() if "places" in part}
        return Map(margins, farthest, float(header["least"]))
    except (OSError, SafetensorError, ValueError, KeyError) as error:
        raise DataError(f"map {path} cannot be read: {error}; `foresight maps` writes it anew") from error


def _shrunk(values: Tensor, at: Tensor, n: int, mean: float) -> Tensor:
    sums = torch.zeros(n).index_add_(0, at, values)
    seen = torch.bincount(at, minlength=n)
    return (sums + SHRINK * mean) / (seen + SHRINK)
