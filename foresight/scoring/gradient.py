"""Gradients of the loss as scores: how strongly it pulls at a component's weights, and what training them is worth."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from ..common.errors import one_of
from ..model.placement import Placement
from .gradient_taps import WeightOf, Weights, stored_weight_of, sum_by_owner, vectors_first, weight_gradients
from .probes import Batch, Probe
from .scorer import Scorer, mean_and_stderr, turns

if TYPE_CHECKING:
    from ..model.components import ComponentTable
    from ..model.numbering import Target


class GradientScorer(Scorer):
    """Base of scorers that reduce the gradient of the mean loss to one number per component.

    A norm of a sum is not a sum of norms, so gradients are summed over batches and processes (`gradient_sums`) before
    they are reduced. That leaves a single row of samples, hence no standard error.

    Attributes:
        by_minibatch: reduce the gradient of each minibatch, a batch of the probe, instead. Each gives one row of
            samples. One process handles it alone: no gradients are communicated, and the result does not depend on the
            number of processes.
    """

    by_minibatch: ClassVar[bool] = False

    def passes(self, n_components: int) -> tuple[float, float]:
        return 1.0, 1.5  # weight gradients, about half as much again

    def _shared(self, model: nn.Module, table: ComponentTable, probe: Probe, place: Placement) -> np.ndarray:
        if self.by_minibatch:
            return super()._shared(model, table, probe, place)
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
        if not self.by_minibatch:
            return self._shared(model, table, probe, Placement())
        return np.stack([self._of_batch(model, table, batch.to(model.device)) for batch in probe.batches])

    def _of_batch(self, model: nn.Module, table: ComponentTable, batch: Batch) -> np.ndarray:
        by_vector = np.zeros(table.n_vectors)

        def consume(target: Target, gradient: Tensor) -> None:
            by_vector[target.ids] = self._reduce(gradient, None).double().cpu().numpy()

        weight_gradients(model, table, batch, consume)
        return self._finish(sum_by_owner(table, by_vector))

    def _open(self, model: nn.Module) -> WeightOf | None:
        """Return a reader of the weights in effect, for scorers that need them; not by minibatch."""
        return None

    @abstractmethod
    def _reduce(self, gradient: Tensor, weight: Tensor | None) -> Tensor:
        """Reduce a target's gradient and weight, float32 [n, d_model], to one number per vector: [n]."""

    def _finish(self, by_component: np.ndarray) -> np.ndarray:
        """Turn sums over each component's vectors into scores: float64 [n_components]."""
        return by_component


class Gradient(GradientScorer):
    """L2 norm of the gradient of the probe's mean loss with respect to the component's weights (nats per unit)."""

    name = "gradient"

    def _reduce(self, gradient: Tensor, weight: Tensor | None) -> Tensor:
        return gradient.square().sum(1)

    def _finish(self, by_component: np.ndarray) -> np.ndarray:
        return np.sqrt(by_component)


class LocalGradient(Gradient):
    """L2 norm of each minibatch's own gradient, averaged over minibatches: no process sends gradients.

    It overestimates `gradient`, because the noise of a minibatch adds to its norm.
    """

    name = "gradient_local"
    by_minibatch = True


class WeightGradient(GradientScorer):
    """Sum of |g * w| over the component's weights, g being the gradient of the probe's mean loss, in nats.

    It is the first-order change of the loss if weights were set to zero, without cancellation: the criterion of SNIP
    (Lee et al., arXiv 1810.02340), summed per component.

    Args:
        weights: None reads the stored ones.
    """

    name = "weight_gradient"

    def __init__(self, weights: Weights | None = None):
        self.weights = weights

    def _open(self, model: nn.Module) -> WeightOf:
        return self.weights() if self.weights else stored_weight_of(model)

    def _reduce(self, gradient: Tensor, weight: Tensor | None) -> Tensor:
        assert weight is not None
        return (gradient * weight).abs().sum(1)


class Utility(GradientScorer):
    """First-order decrease of the loss, per unit of learning rate, from training the component alone for one pass.

    The pass goes over the probe's minibatches. A step w -= lr * d lowers the loss by lr * g.d to first order. Under
    SGD, d = g, so the score is the sum over minibatches of the squared gradient. Under Adam with settled moments, d is
    about sign(g), so it is the sum of the L1 norms. Gradients are taken at the weights in effect, not along the path.
    The definition is this project's own.

    Args:
        preconditioner: ``none`` (SGD) or ``adam``.
    """

    name = "utility"
    by_minibatch = True

    def __init__(self, preconditioner: str = "none"):
        self.preconditioner = one_of("preconditioner", preconditioner, ("none", "adam"))

    def _reduce(self, gradient: Tensor, weight: Tensor | None) -> Tensor:
        return (gradient.abs() if self.preconditioner == "adam" else gradient.square()).sum(1)

    def _combine(self, samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        mean, stderr = mean_and_stderr(samples)
        return len(samples) * mean, len(samples) * stderr


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
