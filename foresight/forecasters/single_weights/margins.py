"""How much each output row and input column of a matrix takes part in a run: a map of margins, and masks drawn from it.

A weight's movement is taken for a random variable of mean 0 whose squared scale is (row) x (column). A map keeps these
two vectors per matrix, a few numbers per thousand weights. From them follows how likely a weight is to be among those
of the budget that move farthest: it has to exceed a threshold that all matrices share.

Movement under Adam has lighter tails than a normal variable (kurtosis 2.4 within rows and columns, on two tasks of
SmolLM2-135M), so its density is taken as exp(-(x / scale)^4), and scales are those of fourth moments. Of a full run of
60 steps, the counts of the farthest .29 % per row then correlate with the expected ones by .83 and .88, with normal
variables and second moments by .70 and .80.

Such factored squares are what Adafactor keeps of gradients (Shazeer & Stern, arXiv 1804.04235). To read them as chances
of exceeding a threshold, and to draw masks by these chances, is this project's own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ...common.errors import DataError
from ...common.files import write_whole

FORMAT = "foresight margins 1"
SHRINK = 4.0
"""Observations that the prior of a row or column counts for, where only a sample of its weights has been seen."""
FLOOR = 1e-4
"""Share of the mean squared scale that a row or column has at least in a mixture: no map may rule one out."""
BINS = 4096
"""Places of the grid of logarithms of scales."""
_TINY = 1e-30


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
        return cls(fourth.mean(1).sqrt(), fourth.mean(0).sqrt() / fourth.mean().sqrt().clamp(min=_TINY))

    @classmethod
    def of_sample(cls, movement: Tensor, rows: Tensor, columns: Tensor, shape: tuple[int, int]) -> Margins:
        """What the movement of some weights tells: float32 [k] of either sign, at rows and columns int64 [k].

        A row that few weights speak for is drawn towards the mean of its matrix: the mean counts as `SHRINK` weights.
        Scales are those of second moments, as fourth ones of a few weights are mostly noise.
        Rows are judged relative to the columns that their weights are in, and columns relative to the rows, once.
        """
        squares = movement.float().square()
        mean = float(squares.mean()) if len(squares) else 0.0
        by_column = _shrunk(squares / max(mean, _TINY), columns, shape[1], 1.0)
        relative = squares / by_column[columns]
        by_row = _shrunk(relative, rows, shape[0], float(relative.mean()) if len(relative) else 0.0)
        return cls(by_row, by_column)

    @classmethod
    def flat(cls, rows: int, columns: int) -> Margins:
        """All weights alike."""
        return cls(torch.ones(rows), torch.ones(columns))

    def sharper(self, power: float) -> Margins:
        """Log scales times `power`."""
        return Margins(self.rows**power, self.columns**power)

    def squared(self) -> Tensor:
        """The squared scale of every weight, float32 [rows, columns]."""
        return self.rows[:, None] * self.columns[None, :]


Map = Mapping[str, Margins]
"""Margins of every matrix of a model, by module."""


class Chances:
    """How likely each weight is, by a map, to be among the n that move farthest: beyond a distance that n weights of
    all matrices together are expected to exceed.

    Logarithms of scales are rounded to a grid, so that distributions are evaluated on it alone and not for every
    weight: of the place of a row and that of a column the sum is the place of a weight.

    Attributes:
        distance: what a weight has to exceed.
    """

    def __init__(self, maps: Map, n: float):
        sides = {module: (one.rows, one.columns) for module, one in maps.items()}
        logs = {module: [values.clamp(min=_TINY).log() / 2 for values in pair] for module, pair in sides.items()}
        lows = [min(float(pair[i].min()) for pair in logs.values()) for i in (0, 1)]
        spans = [max(float(pair[i].max()) for pair in logs.values()) - lows[i] for i in (0, 1)]
        step = max(sum(spans), 1e-6) / BINS
        self._places = {
            module: [((pair[i] - lows[i]) / step).round().int() for i in (0, 1)] for module, pair in logs.items()
        }
        self._scales = (sum(lows) + step * torch.arange(BINS + 2)).exp()
        counts = np.zeros(BINS + 2)
        for rows, columns in self._places.values():
            both = np.convolve(torch.bincount(rows).double().numpy(), torch.bincount(columns).double().numpy())
            counts[: len(both)] += both
        self.distance = self._threshold(torch.from_numpy(counts), n)

    def _threshold(self, counts: Tensor, n: float) -> float:
        """By bisection over its logarithm."""
        low, high = -40.0, 20.0
        for _ in range(60):
            middle = (low + high) / 2
            expected = float((counts * _exceeds(math.exp(middle), self._scales)).sum())
            low, high = (middle, high) if expected > n else (low, middle)
        return math.exp((low + high) / 2)

    def of(self, module: str, value: Callable[[Tensor], Tensor] = lambda chance: chance) -> Tensor:
        """The chances of a matrix's weights, or a function of them, float32 [rows, columns]."""
        rows, columns = self._places[module]
        return value(_exceeds(self.distance, self._scales))[rows[:, None] + columns[None, :]]


def draws(maps: Map, targets: Iterable[tuple[str, int]], n: int, seed: int) -> Iterator[tuple[str, Tensor]]:
    """Keys of all weights: the n highest are a mask drawn without replacement by the chances that the map gives.

    A weight's random number depends on the seed alone, not on the map: a mask changes only as far as its map does.

    Args:
        targets: module and offset of each matrix.

    Yields:
        A module and the keys of its weights, float32 [rows, columns].
    """
    chances = Chances(maps, n)
    for module, offset in targets:
        generator = torch.Generator().manual_seed(int(np.random.SeedSequence([seed, offset]).generate_state(1)[0]))
        yield module, draw_keys(chances.of(module, lambda chance: chance / (1 - chance).clamp(min=1e-6)), generator)


def draw_keys(odds: Tensor, generator: torch.Generator) -> Tensor:
    """Random keys: the n highest are drawn without replacement in proportion to `odds`, which are >= 0, of any shape.

    Efraimidis & Spirakis, Information Processing Letters 97, 2006.
    """
    return torch.rand(odds.shape, generator=generator).clamp(min=1e-7).log() / odds.clamp(min=_TINY)


def mix(maps: Iterable[tuple[float, Map]]) -> dict[str, Margins]:
    """The weighted geometric mean of maps, each of which is first brought to a mean squared scale of 1."""
    levelled = [(weight, _level(one), one) for weight, one in maps]
    total = sum(weight for weight, _, _ in levelled)
    found = {}
    for module in levelled[0][2]:
        logs = [
            (weight / total, _log(one[module].rows / level), _log(one[module].columns))
            for weight, level, one in levelled
        ]
        found[module] = Margins(
            torch.stack([weight * rows for weight, rows, _ in logs]).sum(0).exp(),
            torch.stack([weight * columns for weight, _, columns in logs]).sum(0).exp(),
        )
    return found


def write_map(path: Path, maps: Map, about: Mapping[str, str]) -> None:
    """Write a map; `about` says what it was made from."""
    tensors = {f"{module}/{side}": getattr(one, side).contiguous() for module, one in maps.items() for side in _SIDES}
    metadata = {"format": FORMAT, **about}
    write_whole(path, lambda temporary: save_file(tensors, temporary, metadata))


def is_map(path: Path) -> bool:
    """Whether a file is one of `write_map`."""
    try:
        with safe_open(path, "pt") as file:
            return (file.metadata() or {}).get("format") == FORMAT
    except (OSError, SafetensorError):
        return False


def read_map(path: Path) -> dict[str, Margins]:
    """Inverse of `write_map`. Raises DataError for anything else."""
    if not is_map(path):
        raise DataError(f"{path} is not a map of margins; `foresight maps` writes them")
    with safe_open(path, "pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (it is no mapping)
    modules = dict.fromkeys(key.rpartition("/")[0] for key in tensors)
    return {module: Margins(*(tensors[f"{module}/{side}"] for side in _SIDES)) for module in modules}


_SIDES = ("rows", "columns")


def _shrunk(values: Tensor, at: Tensor, n: int, mean: float) -> Tensor:
    sums = torch.zeros(n).index_add_(0, at, values)
    seen = torch.bincount(at, minlength=n)
    return (sums + SHRINK * mean) / (seen + SHRINK)


def _exceeds(distance: float, scale: Tensor) -> Tensor:
    """P(|x| > distance) of variables with density proportional to exp(-(x / scale)^4)."""
    return torch.special.gammaincc(torch.tensor(1 / 4), (distance / scale.clamp(min=_TINY)).pow(4).clamp(max=1e4))


def _level(maps: Map) -> float:
    """Mean squared scale over the model."""
    weights = sum(len(one.rows) * len(one.columns) for one in maps.values())
    return max(
        _TINY, sum(float(one.rows.double().sum() * one.columns.double().sum()) for one in maps.values()) / weights
    )


def _log(values: Tensor) -> Tensor:
    return values.clamp(min=FLOOR).log()
