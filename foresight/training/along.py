"""Scores that come along: taken from the passes of the steps that train, for the cost of a product per activation."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor, nn

from ..model.placement import Placement
from ..scoring.attribution import relative
from ..scoring.folds import FOLDS, Folds
from ..scoring.taps import sites, tallied

if TYPE_CHECKING:
    from ..masks.costs import StepCosts
    from ..masks.masks import Mask
    from ..model.components import ComponentTable

PRODUCTS = 0.05
"""What the products of activations and gradients take of a step, at most, as measured on SmolLM2-135M."""


class Along:
    """Collects the relative gradient x activation of training rows, dealt into folds, until a snapshot takes them.

    Rows are those of batches as they are trained on: a packed row counts as one. Every process collects its own.

    Args:
        model: the run's, with its bank.
    """

    def __init__(self, model: nn.Module, table: ComponentTable):
        self.model, self.n, self._places = model, len(table), sites(table)
        self._open = ExitStack()
        self._between: tuple[Mask | None, int] = (None, 0)
        self._begin()

    def _begin(self) -> None:
        self.sums, self.rows = np.zeros((FOLDS, self.n)), np.zeros(FOLDS)

    def start(self) -> None:
        """Collect from every pass until `stop`."""
        self.stop()
        # Gradients then reach below the lowest trained weight.
        hook = self.model.get_input_embeddings().register_forward_hook(_needs_gradient)
        self._open.callback(hook.remove)
        self.tally = self._open.enter_context(tallied(self.model, self._places, self.n))

    def stop(self) -> None:
        """Leave the model as it was, and keep what its passes have told."""
        if not hasattr(self, "tally"):
            return
        found = relative(-self.tally.take().double().cpu().numpy())
        self._open.close()
        del self.tally
        counted = found[found.any(1)]  # others have nothing to predict
        at = (int(self.rows.sum()) + np.arange(len(counted))) % FOLDS
        np.add.at(self.sums, at, counted)
        np.add.at(self.rows, at, 1)

    def fresh(self, placement: Placement) -> Folds | None:
        """What was collected since the last call, on all processes, which all call this; None if it was too little."""
        sums, rows = (np.sum(placement.gather(mine), axis=0) for mine in (self.sums, self.rows))
        if not rows.all():
            return None
        self._begin()
        return Folds((sums / rows[:, None]).astype(np.float32), rows)

    def state(self, placement: Placement) -> dict[str, np.ndarray]:
        """What every process has collected, one after the other; all call this."""
        return {"sums": np.stack(placement.gather(self.sums)), "rows": np.stack(placement.gather(self.rows))}

    def load_state(self, arrays: Mapping[str, np.ndarray], placement: Placement) -> None:
        """Inverse of `state`; where the number of processes is another one, the first takes everything."""
        for name, of_all in arrays.items():
            same, first = len(of_all) == placement.world, placement.rank == 0
            setattr(self, name, of_all[placement.rank].copy() if same else of_all.sum(0) * first)

    def steps_between(self, mask: Mask, costs: StepCosts, share: float) -> int:
        """How often a step may be collected from so that it costs at most a share of all operations: every so many
        steps. It is asked for at every step, and computed once for each mask.

        A step that is collected from passes gradients on to the embeddings, whatever its mask.
        """
        if self._between[0] is not mask:
            forward, backward = costs.operations(np.array(mask.components))
            beyond = max(0.0, costs.floor[1] - backward) / (forward + backward)
            self._between = mask, math.ceil((beyond + PRODUCTS) / share)
        return self._between[1]


def _needs_gradient(module: nn.Module, args: Any, output: Tensor) -> Tensor:
    return output.requires_grad_()
