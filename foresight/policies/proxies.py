"""Stand-ins for damage where there is no retained data: weaker, since none of them has seen what is to be kept.

Each is a number >= 0 a component, measured on the target's own probe. They have no unit in common with the benefit, so
`VirtualMoves` scales them to the same sum over components: a damage weight of 1 weighs both alike on average. Choice
and scaling are our own; the ideas are those of importance-weighted regularisation (Fisher: Kirkpatrick et al., arXiv
1612.00796).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from ..common.errors import one_of
from ..scoring import make_scorer
from ..scoring.probes import Probe
from ..scoring.scorer import Scorer
from ..scoring.taps import record, sites, sum_by_component

if TYPE_CHECKING:
    from ..bank import Bank
    from ..model.components import ComponentTable

PROXIES = ("activation", "fisher", "movement")


class ActivationNorm(Scorer):
    """Root mean square over examples of the L2 norm of a component's activation at all real positions: a component
    that is active on anything is taken to serve everything.
    """

    name = "activation"

    def _samples(self, model: nn.Module, table: ComponentTable, probe: Probe) -> np.ndarray:
        places, rows = sites(table), []
        for batch in (batch.to(model.device) for batch in probe.batches):
            real = batch.attention_mask[..., None]
            with torch.no_grad():
                activations = record(model, places, batch).activations
            rows.append(sum_by_component(places, len(table), (a.float().square() * real for a in activations)).cpu())
        return torch.cat(rows).double().numpy()

    def _combine(self, samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return np.sqrt(samples.mean(0)), np.full(samples.shape[1], np.nan)


def make_proxy(name: str, bank: Bank) -> Scorer:
    """A proxy for damage, reading the bank's weights in effect.

    ``activation``: `ActivationNorm`. ``fisher``: the squared gradients of the target's minibatches, summed, as an
    empirical Fisher information's trace. ``movement``: L2 distance from the weights as they are now (of which an fp32
    copy is kept); knows nothing before the first step.

    Raises:
        UnknownNameError: no such proxy.
    """
    one_of("damage proxy", name, PROXIES)
    if name == "activation":
        return ActivationNorm()
    if name == "fisher":
        return make_scorer("utility")
    read = bank.weights()
    reference = {target.module: read(target.module) for target in bank.table.targets}
    return make_scorer("movement", reference=reference, weights=bank.weights)
