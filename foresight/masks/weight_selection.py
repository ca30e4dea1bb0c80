"""The weights of highest score over all matrices of a model, one matrix at a time.

No more than one matrix of scores and the best ones so far are kept: up to 24 bytes for each weight that is to be
chosen, and as much again for a moment.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator

import numpy as np
import torch
from torch import Tensor, nn

from ..common.errors import ConfigError, NonFiniteError
from ..model.components import ComponentTable, features, turned
from ..model.numbering import Target
from ..model.placement import Placement
from ..model.weight_table import WeightTable
from ..scoring.gradient import gradient_sums
from ..scoring.probes import Probe
from ..scoring.scorer import scoring_mode
from .masks import WeightMask

LEAST = 2**29
"""Weights whose gradients are summed over a probe at a time, at least: 2 GiB of host memory in fp32."""

Scored = tuple[Target, Tensor]
"""A target of a `WeightTable` and the scores of its weights, in the shape of its stored weight."""


class Best:
    """The n weights of highest score among those added so far, in any order; ties go to the lowest ids.

    What is added is only compared with the least score that can still be among the best. That is raised whenever twice
    as many weights as are wanted wait, which happens a few times per model, not at every matrix.
    """

    def __init__(self, n: int):
        self.n, self._least = n, -math.inf
        self._ids, self._scores = torch.zeros(0, dtype=torch.int64), torch.zeros(0)
        self._waiting: list[tuple[Tensor, Tensor]] = []

    def add(self, ids: Tensor, scores: Tensor) -> None:
        """Take part of the weights: ids int64 [k] not added before, scores [k].

        Raises:
            NonFiniteError: a score is NaN.
        """
        scores = scores.float()
        if torch.isnan(scores).any():
            raise NonFiniteError(f"{int(torch.isnan(scores).sum())} scores of weights are NaN; no mask can be chosen")
        if self._least > -math.inf:
            hopeful = (scores >= self._least).nonzero().flatten()
            ids, scores = ids.to(hopeful.device)[hopeful], scores[hopeful]
        self._waiting.append((ids.cpu(), scores.cpu()))
        if sum(len(one) for one, _ in self._waiting) > self.n:
            self._settle()

    def _settle(self) -> None:
        ids, scores = (torch.cat(part) for part in zip((self._ids, self._scores), *self._waiting, strict=True))
        self._waiting = []
        if (excess := len(ids) - self.n) > 0:
            self._least = float(np.partition(scores.numpy(), excess)[excess])
            above, tied = scores > self._least, ids[scores == self._least].sort().values
            ids = torch.cat([ids[above], tied[: self.n - int(above.sum())]])
            scores = torch.cat([scores[above], torch.full((len(ids) - int(above.sum()),), self._least)])
        self._ids, self._scores = ids, scores

    def found(self) -> tuple[Tensor, Tensor]:
        """Ids, int64 [n], and scores, float32 [n], of the best so far; fewer than n if no more were added."""
        self._settle()
        return self._ids, self._scores

    def mask(self) -> WeightMask:
        """The weights.

        Raises:
            ConfigError: fewer than n were added.
        """
        ids, _ = self.found()
        if len(ids) < self.n:
            raise ConfigError(f"{self.n} weights were asked for and {len(ids)} scored; lower the budget")
        return WeightMask(ids.sort().values.numpy())


def best_weights(scored: Iterable[Scored], n: int, place: Placement | None = None) -> WeightMask:
    """The n weights of highest score over all targets; ties go to the lowest ids.

    Args:
        scored: target by target, each once; all of a process's own. With several processes either each of them has
            all targets, or `place` is given and each has its share: they then put the best of each together.

    Raises:
        NonFiniteError: a score is NaN.
        ConfigError: fewer than n weights were scored.
    """
    best = Best(n)
    for target, scores in scored:
        flat = scores.flatten()
        best.add(torch.arange(target.offset, target.offset + len(flat), device=flat.device), flat)
    if place is not None and place.world > 1:
        shares, best = place.gather(best.found()), Best(n)
        for ids, values in shares:
            best.add(ids, values)
    return best.mask()


def random_places(total: int, n: int, rng: np.random.Generator) -> np.ndarray:
    """n of the numbers below `total`, every set of them equally likely: int64 [n], sorted.

    Numbers are drawn until n different ones have come, never more at a time than are missing. That takes time and
    memory of the order of n, or of what is left out if that is less.
    """
    if 2 * n > total:
        chosen = np.ones(total, bool)
        chosen[random_places(total, total - n, rng)] = False
        return np.flatnonzero(chosen)
    found = np.zeros(0, np.int64)
    while (missing := n - len(found)) > 0:
        found = np.sort(np.concatenate([found, rng.integers(total, size=missing)]))
        found = found[np.diff(found, prepend=-1) > 0]  # `np.unique` takes eighty times as long
    return found


def at_once() -> int:
    """Weights whose fp32 gradients fit into a quarter of this host's memory, or `LEAST`."""
    return max(LEAST, os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 4 // 4)


def gradients(
    model: nn.Module, table: WeightTable, probe: Probe, place: Placement, group: int | None = None
) -> Iterator[Scored]:
    """Yield the gradient of the probe's mean loss, float32 on the CPU, for every target that belongs to this process.

    Gradients are summed over the probe before they can be scores. That is done for a group of targets of at most
    `group` weights together (at least one target), each with a pass over the probe of its own. By default a group takes
    at most a quarter of the host's memory, on all processes together: 8 billion weights take one pass from 128 GiB on.
    """
    group = group or min(place.gather(at_once()))
    parts: list[list[Target]] = [[]]
    for target in table.candidates:
        if parts[-1] and sum(t.n for t in parts[-1]) + target.n > group:
            parts.append([])
        parts[-1].append(target)
    for part in parts:
        whole = [Target(t.module, "row", features(model.get_submodule(t.module))[0], t.offset) for t in part]
        with scoring_mode(model):
            sums = gradient_sums(model, ComponentTable([], whole, 1, table.model_parameters), probe, place)
        place.settle()
        for target in part:
            if (gradient := sums.pop(target.module, None)) is not None:
                yield target, turned(gradient, model.get_submodule(target.module))
