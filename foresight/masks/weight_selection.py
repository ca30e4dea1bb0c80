"""The weights of highest score over all matrices of a model, one matrix at a time.

No more than one matrix of scores and the best ones so far are kept: 12 bytes for each weight that is to be chosen.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn

from ..common.errors import ConfigError, NonFiniteError
from ..model.components import ComponentTable, turned
from ..model.numbering import Target
from ..model.placement import Placement
from ..model.weight_table import WeightTable
from ..scoring.gradient import gradient_sums
from ..scoring.probes import Probe
from ..scoring.scorer import scoring_mode
from .masks import WeightMask

GROUP = 2**29
"""Weights whose gradients are summed over a probe at a time, in host memory: 2 GiB in fp32."""

Scored = tuple[Target, Tensor]
"""A target of a `WeightTable` and the scores of its weights, in the shape of its stored weight."""


class Best:
    """The n weights of highest score among those added so far, in any order; ties go to the lowest ids."""

    def __init__(self, n: int):
        self.n = n
        self.ids = torch.zeros(0, dtype=torch.int64)
        self.scores = torch.zeros(0)

    def add(self, ids: Tensor, scores: Tensor) -> None:
        """Take part of the weights: ids int64 [k] not added before, scores [k].

        Raises:
            NonFiniteError: a score is NaN.
        """
        scores = scores.float()
        if torch.isnan(scores).any():
            raise NonFiniteError(f"{int(torch.isnan(scores).sum())} scores of weights are NaN; no mask can be chosen")
        if len(self.ids) == self.n:  # most can be dropped at once
            hopeful = (scores >= self.scores.min().to(scores.device)).nonzero().flatten()
            ids, scores = ids.to(hopeful.device)[hopeful], scores[hopeful]
        ids, scores = torch.cat([self.ids, ids.cpu()]), torch.cat([self.scores, scores.cpu()])
        if len(ids) > self.n:
            least = scores.kthvalue(len(scores) - self.n + 1).values
            above, tied = scores > least, ids[scores == least].sort().values
            ids = torch.cat([ids[above], tied[: self.n - int(above.sum())]])
            scores = torch.cat([scores[above], least.expand(len(ids) - int(above.sum()))])
        self.ids, self.scores = ids, scores

    def mask(self) -> WeightMask:
        """The weights.

        Raises:
            ConfigError: fewer than n were added.
        """
        if len(self.ids) < self.n:
            raise ConfigError(f"{self.n} weights were asked for and {len(self.ids)} scored; lower the budget")
        return WeightMask(self.ids.sort().values.numpy())


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
        shares, best = place.gather((best.ids, best.scores)), Best(n)
        for ids, values in shares:
            best.add(ids, values)
    return best.mask()


def gradients(
    model: nn.Module, table: WeightTable, probe: Probe, place: Placement, group: int = GROUP
) -> Iterator[Scored]:
    """Yield the gradient of the probe's mean loss, float32 on the CPU, for every target that belongs to this process.

    Gradients are summed over the probe before they can be scores. That is done for a group of targets of at most
    `group` weights together (at least one target), each with a pass over the probe of its own: memory is bounded, and
    a model that fits into one group takes one pass.
    """
    parts: list[list[Target]] = [[]]
    for target in table.targets:
        if parts[-1] and sum(t.n for t in parts[-1]) + target.n > group:
            parts.append([])
        parts[-1].append(target)
    for part in parts:
        whole = [Target(t.module, "row", t.n, t.offset) for t in part]  # as [output features, input features]
        with scoring_mode(model):
            sums = gradient_sums(model, ComponentTable([], whole, 1, table.model_parameters), probe, place)
        place.settle()
        for target in part:
            if (gradient := sums.pop(target.module, None)) is not None:
                yield target, turned(gradient, model.get_submodule(target.module))
