"""From weight gradients to scores: of the gradient over the whole probe, or of one minibatch after the other."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from ..model.placement import Placement
from .base import Scorer, turns
from .probes import Batch, Probe
from .weights import WeightOf, sum_by_owner, vectors_first, weight_gradients

if TYPE_CHECKING:
    from ..model.components import ComponentTable, Target


class WeightScorer(Scorer):
    """Base of scorers of the gradient over the whole probe: of the mean loss of all its labelled positions.

    A norm of a sum is not a sum of norms, so gradients are summed over batches and processes before they are reduced
    to numbers (`gradient_sums`). There is one row of samples, so no standard error.
    """

    def _shared(self, model: nn.Module, table: ComponentTable, probe: Probe, place: Placement) -> np.ndarray:
        sums = gradient_sums(model, table, probe, place)
        read = self._open(model)
        by_vector = np.zeros(table.n_vectors)
        for target in table.targets:
            weight = None if read is None else vectors_first(read(target.module), target)  # by all, as it may be shared
            if (gradient := sums.pop(target.module, None)) is not None:
                found = self._reduce(gradient, None if weight is None else weight.to(gradient.device))
                by_vector[target.offset : target.offset + target.n] = found.double().numpy()
        by_vector = np.sum(place.gather(by_vector), axis=0)
        return self._finish(sum_by_owner(table, by_vector))[None]

    def _samples(self, model: nn.Module, table: ComponentTable, probe: Probe) -> np.ndarray:
        return self._shared(model, table, probe, Placement())

    def _open(self, model: nn.Module) -> WeightOf | None:
        """The reader of weights, for a scorer that needs them."""
        return None

    @abstractmethod
    def _reduce(self, gradient: Tensor, weight: Tensor | None) -> Tensor:
        """One number per vector, [n], of a target's gradient and weight, float32 [n, d_model] on the CPU."""

    def _finish(self, by_component: np.ndarray) -> np.ndarray:
        """Scores of components from the sums of their vectors' numbers, float64 [n_components]."""
        return by_component


class MinibatchScorer(Scorer):
    """Base of scorers that reduce the gradient of each minibatch, a batch of the probe, to one number per component.

    A row of samples is a minibatch. It is one process's alone, so no gradients are communicated, whatever the number of
    processes, and the result does not depend on it. The standard error is NaN if there is one minibatch.
    """

    def _samples(self, model: nn.Module, table: ComponentTable, probe: Probe) -> np.ndarray:
        return np.stack([self._of_batch(model, table, batch.to(model.device)) for batch in probe.batches])

    def _of_batch(self, model: nn.Module, table: ComponentTable, batch: Batch) -> np.ndarray:
        by_vector = np.zeros(table.n_vectors)

        def consume(target: Target, gradient: Tensor) -> None:
            by_vector[target.offset : target.offset + target.n] = self._reduce(gradient).double().cpu().numpy()

        weight_gradients(model, table, batch, consume)
        return self._finish(sum_by_owner(table, by_vector))

    @abstractmethod
    def _reduce(self, gradient: Tensor) -> Tensor:
        """One number per vector, [n], of a target's gradient, float32 [n, d_model]."""

    def _finish(self, by_component: np.ndarray) -> np.ndarray:
        return by_component


def owned_gradients(
    model: nn.Module, table: ComponentTable, probe: Probe, place: Placement, consume: Callable[[Target, Tensor], None]
) -> None:
    """Call `consume(target, gradient)` for every target of every batch, on the one process that the target belongs to.

    The gradients of a target add up to that of the mean loss of all labelled positions of the probe: float32
    [n, d_model], the target's vectors as rows, on the model's device, one matrix at a time. For every batch that a
    process takes it sends 4 bytes for each weight of the table.
    """
    owner = {target.module: i % place.world for i, target in enumerate(table.targets)}
    positions = sum(_labelled(batch) for batch in probe.batches)

    def add(share: float, target: Target, gradient: Tensor) -> None:
        at = owner[target.module]
        total = place.sum_at(gradient.mul_(share), at)
        if place.rank == at:
            consume(target, total)

    for batch, counts in turns(probe, place):
        share = _labelled(batch) / positions if counts else 0.0
        weight_gradients(model, table, batch.to(model.device), partial(add, share))


def gradient_sums(model: nn.Module, table: ComponentTable, probe: Probe, place: Placement) -> dict[str, Tensor]:
    """Gradient of the mean loss over the probe by target module: float32 [n, d_model] on the CPU, the targets that
    belong to this process only; 4 bytes a weight of host memory, divided among the processes.
    """
    sums: dict[str, Tensor] = {}

    def add(target: Target, gradient: Tensor) -> None:
        so_far = sums.get(target.module)
        sums[target.module] = gradient.cpu() if so_far is None else so_far.add_(gradient.cpu())

    owned_gradients(model, table, probe, place, add)
    return sums


def _labelled(batch: Batch) -> int:
    return int(torch.count_nonzero(batch.targets >= 0))
