"""What the early movement of a masked run says about the maps of other runs, and about its own rows and columns.

A mask of .3 % has hundreds of thousands of weights, but only two or three per row after which to judge that row. So the
run's own movement is used twice: it says how much each known map is worth here, which is a handful of numbers and so is
known well; and, drawn towards the mean, it is a map of its own. The method is this project's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .margins import Map, Margins

OWN_POWER = 2.0
"""How much sharper the map of a whole run is than that of its early movement: its log scales are multiplied by it."""


@dataclass(frozen=True)
class Moved:
    """How far some weights of a matrix have moved: rows and columns int64 [k], distance float32 [k] of either sign."""

    shape: tuple[int, int]
    rows: Tensor
    columns: Tensor
    distance: Tensor

    def half(self, which: int) -> Moved:
        """Every other weight, from the first or the second on."""
        return Moved(self.shape, self.rows[which::2], self.columns[which::2], self.distance[which::2])


def own_map(moved: dict[str, Moved]) -> Map:
    """The map that a run's own early movement gives, sharpened to that of a whole run.

    A matrix of which no weight was trained is taken for an average one.
    """
    distances = torch.cat([m.distance for m in moved.values()])
    nowhere = torch.zeros(len(distances), dtype=torch.int64)
    mean = Margins.of_sample(distances, nowhere, nowhere, (1, 1))
    margins = {}
    for module, m in moved.items():
        found = Margins(mean.rows.expand(m.shape[0]), torch.ones(m.shape[1]))
        if len(m.distance):
            found = Margins.of_sample(m.distance, m.rows, m.columns, m.shape)
        margins[module] = Margins(found.rows**OWN_POWER, found.columns**OWN_POWER)
    return Map(margins)


def worth(moved: dict[str, Moved], maps: Sequence[Map]) -> np.ndarray:
    """What each map is worth for a run that has moved like that: weights >= 0 that sum to 1, float64 [n_maps].

    They are the coefficients of a regression, without negative ones, of the log squared distance of the run's weights
    on the log squared scale that each map gives them. Equal weights where none of the maps says anything.
    """
    from scipy.optimize import nnls

    equal = np.full(len(maps), 1 / len(maps))
    columns = [np.concatenate([_told(one.margins[module], m) for module, m in moved.items()]) for one in maps]
    squares = torch.cat([m.distance.float() for m in moved.values()]).square()
    if not squares.any():
        return equal
    seen = (squares + 1e-3 * squares.mean()).log().double().numpy()
    design = np.stack([column - column.mean() for column in columns], 1)
    gram, aims = design.T @ design / len(seen), design.T @ (seen - seen.mean()) / len(seen)
    ridge = 1e-6 * np.trace(gram) + 1e-12
    root = np.linalg.cholesky(gram + ridge * np.eye(len(maps)))
    coefficients, _ = nnls(root.T, np.linalg.solve(root, aims))
    total = coefficients.sum()
    return coefficients / total if total > 0 else equal


def forecast(moved: dict[str, Moved], maps: Sequence[Map]) -> list[tuple[float, Map]]:
    """The known maps and the run's own one, which comes last, with what each is worth.

    The own map is judged on weights that it was not made from: each half of the weights judges that of the other.
    """
    own = own_map(moved)
    if not maps:
        return [(1.0, own)]
    halves = [{module: m.half(which) for module, m in moved.items()} for which in (0, 1)]
    shares = np.mean([worth(halves[1 - i], [*maps, own_map(halves[i])]) for i in (0, 1)], 0)
    return list(zip(shares.tolist(), [*maps, own], strict=True))


def _told(margins: Margins, moved: Moved) -> np.ndarray:
    """Log squared scale that a matrix's margins give to the weights that have moved, float64 [k]."""
    rows, columns = margins.rows[moved.rows], margins.columns[moved.columns]
    return (rows.clamp(min=1e-30).log() + columns.clamp(min=1e-30).log()).double().numpy()
