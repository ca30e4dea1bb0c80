"""Movement: how far a component's weights have moved from a reference."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor, nn

from ..common.errors import ConfigError
from .gradient_taps import Weights, stored_weight_of, sum_by_owner, vectors_first
from .probes import Probe
from .scorer import Scorer

if TYPE_CHECKING:
    from ..model.components import ComponentTable


class Movement(Scorer):
    """L2 distance of the component's weights from a reference. It reads no data, and its standard errors are 0.

    Args:
        reference: earlier weights by the name of the target module: [output features, input features], any float
            dtype.
        weights: None reads the stored ones.

    Raises:
        ConfigError: the reference lacks a target, or one of its weights has another shape.
    """

    name = "movement"
    divisible = False

    def __init__(self, reference: Mapping[str, Tensor], weights: Weights | None = None):
        self.reference = reference
        self.weights = weights

    def passes(self, n_components: int) -> tuple[float, float]:
        return 0.0, 0.0

    def _check_probe(self, probe: Probe | None) -> None:
        pass

    def _samples(self, model: nn.Module, table: ComponentTable, probe: Probe | None) -> np.ndarray:
        weight_of = self.weights() if self.weights else stored_weight_of(model)
        by_vector = np.zeros(table.n_vectors)
        for target in table.targets:
            now = weight_of(target.module).detach().float()
            moved = vectors_first(now - self._before(target.module, now), target)
            by_vector[target.ids] = moved.square().sum(1).double().cpu().numpy()
        return np.sqrt(sum_by_owner(table, by_vector))[None]

    def _combine(self, samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return samples[0], np.zeros(samples.shape[1])

    def _before(self, module: str, now: Tensor) -> Tensor:
        if module not in self.reference:
            raise ConfigError(f"movement: the reference has no weight of {module}; expected one for every target")
        before = self.reference[module]
        if before.shape != now.shape:
            raise ConfigError(
                f"movement: the reference of {module} has shape {tuple(before.shape)}; expected {tuple(now.shape)}, "
                "output features x input features"
            )
        return before.detach().to(now.device, now.dtype)
