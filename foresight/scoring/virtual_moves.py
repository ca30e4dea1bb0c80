"""Virtual moves: where the optimizer would take every component first, and what that does to two losses.

The move of a weight is Adam's first step from fresh moments (Kingma & Ba, arXiv 1412.6980, algorithm 1 at t = 1, where
bias correction turns the moments into g and g^2), at the weights in effect:

    dw = -lr * g / (|g| + eps),  g being the gradient of the mean target loss over the probe.

Its first-order effects, in nats, summed over a component's weights, are

    benefit = -g . dw   (decrease of the target loss, never negative, about lr * |g|_1)
    damage  = h . dw    (increase of the retained loss, h being its mean gradient; negative where the move helps it too)

Choosing a mask by benefit minus damage of such moves is this project's own idea. `lr` is the run's (peak) learning
rate; a factor that both share does not change the order of components. Gradient clipping is left out: apart from eps, a
first step does not depend on the size of g.

The retained loss is the cross-entropy on retained rows. On text that the base model wrote, its expected gradient is
that of the divergence KL(base || model), whose exact computation would need the base model's logits. Both gradients
are zero in expectation as long as the model is the base model, so the first measurement is sampling noise only. Damage
shows once weights have moved, which is why it is measured again at every re-mask.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor, nn

from ..model.placement import Placement
from .gradient import GradientScorer, gradient_sums, owned_gradients
from .gradient_taps import sum_by_owner
from .probes import Probe
from .scorer import BENEFIT, DAMAGE, scoring_mode
from .scores import Scores

if TYPE_CHECKING:
    from ..model.components import ComponentTable
    from ..model.numbering import Target


class VirtualMoves(GradientScorer):
    """Benefit and, if there is anything to retain, damage of the virtual moves of all components.

    `score` returns only the benefit, `measure` both. One pass over the probe sums gradients, which are then turned into
    moves (4 bytes per weight of host memory). One pass over the retained probe multiplies its gradients with the moves,
    one matrix of one batch at a time.

    Args:
        learning_rate, epsilon: those of the run's Adam.
        retained: a probe of retained rows; None measures only the benefit.
    """

    name = BENEFIT

    def __init__(self, learning_rate: float, epsilon: float = 1e-8, retained: Probe | None = None):
        self.learning_rate = learning_rate
        self.epsilon = epsilon
        self.retained = retained

    def passes(self, n_components: int) -> tuple[float, float]:
        return (1.0, 1.5) if self.retained is None else (2.0, 3.0)

    def cost(self, batches: int, measurements: int) -> dict[str, float]:
        """What measurements cost: batches that passed forward and backward, and seconds spent on damage."""
        damage = 0 if self.retained is None else len(self.retained.batches)
        return {
            "benefit_passes": batches,
            "damage_passes": measurements * damage,
            "damage_seconds": self.damage_seconds,
        }

    def measure(
        self, model: nn.Module, table: ComponentTable, probe: Probe | None, placement: Placement | None = None
    ) -> dict[str, Scores]:
        """Scores by name: `benefit` (>= 0) and, if anything is retained, `damage` (signed)."""
        if self.retained is None:
            return super().measure(model, table, probe, placement)
        self._check_probe(probe)
        assert probe is not None
        place = placement or Placement()
        benefit, damage = np.zeros(table.n_vectors), np.zeros(table.n_vectors)
        with scoring_mode(model):
            moves = gradient_sums(model, table, probe, place)
            for target in table.targets:
                if (gradient := moves.get(target.module)) is not None:
                    benefit[target.ids] = self._reduce(gradient, None).double().numpy()
                    moves[target.module] = self._move(gradient)
            began = time.perf_counter()

            def meet(target: Target, gradient: Tensor) -> None:
                change = gradient.mul_(moves[target.module].to(gradient.device)).sum(1)
                damage[target.ids] += change.double().cpu().numpy()

            owned_gradients(model, table, self.retained, place, meet)
        place.settle()
        self.damage_seconds += time.perf_counter() - began
        by_vector = {BENEFIT: benefit, DAMAGE: damage}
        return {
            name: self.combine(sum_by_owner(table, np.sum(place.gather(found), axis=0))[None], table)
            for name, found in by_vector.items()
        }

    def _move(self, gradient: Tensor) -> Tensor:
        return gradient / (gradient.abs() + self.epsilon) * -self.learning_rate

    def _reduce(self, gradient: Tensor, weight: Tensor | None) -> Tensor:
        return -(gradient * self._move(gradient)).sum(1)
