"""From weight gradients to scores: the gradient over the whole probe, or that of each minibatch in turn."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from ..model.placement import Placement
from .gradient_taps import WeightOf, sum_by_owner, vectors_first, weight_gradients
from .probes import Batch, Probe
from .scorer import Scorer, turns

if TYPE_CHECKING:
    from ..model.components import ComponentTable
    from ..model.numbering import Target


class WeightScorer(Scorer):
    """Base of scorers that read the gradient of the mean loss over all labelled positions of the probe.

    A norm of a sum is not a sum of norms, so gradients are summed over batches and processes (`gradient_sums`) before
    they are reduced to numbers. That leaves a single row of samples, hence no standard error.
    """

    def _shared(self, model: nn.Module, table: ComponentTable, probe: Probe, place: Placement) -> np.ndarray:
        sums = gradient_sums(model, table, probe, place)
        read = self._open(model)
        by_vector = np.zeros(table.n_vectors)
        for target in table.targets:
            # Every process reads the weight, since it may be sharded among them.
            weight = None if read is None else vectors_first(read(target.module), target)
            if (gradient := sums.pop(target.module, None)) is not None:
                found = self._reduce(gradient, None if weight is None else weight.to(gradient.device))
                by_vector[target.ids] = found.double().numpy()
        by_vector = np.sum(place.gather(by_vector), axis=0)
        return self._finish(sum_by_owner(table, by_vector))[None]

    def _samples(self, model: nn.Module, table: ComponentTable, probe: Probe) -> np.ndarray:
        return self._shared(model, table, probe, Placement())

    def _open(self, model: nn.Module) -> WeightOf | None:
        """Return a reader of the weights in effect, for scorers that need them."""
        return None

    @abstractmethod
    def _reduce(self, gradient: Tensor, weight: Tensor | None) -> Tensor:
        """Reduce a target's gradient and weight, float32 [n, d_model] on the CPU, to one number per vector: [n]."""

    def _finish(self, by_component: np.ndarray) -> np.ndarray:
        """Turn sums over each component's vectors into scores: float64 [n_components]."""
        return by_component


class MinibatchScorer(Scorer):
    """Base of scorers that reduce the gradient of each minibatch, a batch of the probe, to one number per component.

    Each row of samples comes from one minibatch, which one process handles alone: no gradients are communicated, and
    the result does not depend on the number of processes. The standard error of a single minibatch is NaN.
    """

    def _samples(self, model: nn.Module, table: ComponentTable, probe: Probe) -> np.ndarray:
        return np.stack([self._of_batch(model, table, batch.to(model.device)) for batch in probe.batches])

    def _of_batch(self, model: nn.Module, table: ComponentTable, batch: Batch) -> np.ndarray:
        by_vector = np.zeros(table.n_vectors)

        def consume(target: Target, gradient: Tensor) -> None:
            by_vector[target.ids] = self._reduce(gradient).double().cpu().numpy()

        weight_gradients(model, table, batch, consume)
        return self._finish(sum_by_owner(table, by_vector))

    @abstractmethod
    def _reduce(self, gradient: Tensor) -> Tensor:
        """Reduce a target's gradient, float32 [n, d_model], to one number per vector: [n]."""

    def _finish(self, by_component: np.ndarray) -> np.ndarray:
        return by_component


def owned_gradients(
    model: nn.Module, table: ComponentTable, probe: Probe, place: Placement, consume: Callable[[Target, Tensor], None]
) -> None:
    """Call `consume(target, gradient)` for every target of every batch, on the process that owns the target.

    A target's gradients are float32 [n, d_model], its vectors as rows, on the model's device, one matrix at a time.
    Over all batches they add up to the gradient of the mean loss over the probe's labelled positions. A process sends
    4 bytes per weight of the table for every batch that it takes.
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
    """Gradient of the mean loss over the probe, by target module: float32 [n, d_model] on the CPU.

    Each process gets the targets that it owns, so the 4 bytes per weight of host memory are divided among processes.
    """
    sums: dict[str, Tensor] = {}

    def add(target: Target, gradient: Tensor) -> None:
        so_far = sums.get(target.module)
        sums[target.module] = gradient.cpu() if so_far is None else so_far.add_(gradient.cpu())

    owned_gradients(model, table, probe, place, add)
    return sums


def _labelled(batch: Batch) -> int:
    return int(torch.count_nonzero(batch.targets >= 0))
