"""Policy `foresight` over single weights: those that will move farthest, by what the first steps of the run tell."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...bank import AnyBank
from ...bank.weights import WeightBank
from ...common.errors import BudgetError, CheckpointError
from ...forecasters.single_weights.features import WatchedMatrix
from ...forecasters.single_weights.movement import movement_forecast
from ...forecasters.single_weights.sums import OF_GRADIENT, WeightSums
from ...masks.masks import WeightMask
from ...masks.weight_selection import best_weights
from ...model.components import turned
from ..policy import Ground, View
from .weight_policy import WeightPolicy, WeightView

BYTES_PER_WEIGHT = 4 + 4 + 8 + 4 + 8 + 8
"""Of a weight in the bank: value, gradient, two moments, age, and its id on CPU and device."""


class WeightForesight(WeightPolicy):
    """The weights that are forecast to move farthest, chosen once, when the watch ends.

    During the watch all weights are trained, or random masks of the budget's size, and what their movement and
    gradients tell is accumulated. Weights that the watch has not seen are known by their row and column alone, if the
    memory is factored; otherwise they count as not moving.

    Args:
        movement_rule: one of `forecasters.single_weights.movement.RULES`, or the JSON file of a regression.
        movement_memory: one of `forecasters.single_weights.sums.MEMORIES`.
        watch: "hold" or "rotate" for random masks that take turns, or "full-keep" or "full-rollback" for all weights.
        watch_steps: steps before the decision.

    Attributes:
        seconds: wall time that accumulating and forecasting took.
        nbytes: the most bytes that the sums took.
    """

    name = "foresight"
    forecasts = True

    def __init__(
        self,
        movement_rule: str = "displacement",
        movement_memory: str = "factored",
        watch: str = "hold",
        watch_steps: int | None = None,
    ):
        self.rule, self.memory, self.watch, self.watch_steps = movement_rule, movement_memory, watch, watch_steps
        self.decided = False
        self.seconds, self.nbytes = 0.0, 0

    def prepare(self, ground: Ground) -> None:
        shapes = {t.module: tuple(ground.model.get_submodule(t.module).weight.shape) for t in ground.numbers.targets}
        self.forecast = movement_forecast(self.rule)
        self.sums = WeightSums(shapes, self.forecast.needs, self.memory)

    # -- the watch --------------------------------------------------------------------------------------------------

    def watched(self, view: View, turn: int) -> WeightMask:
        """The random mask whose turn it is, under the budget; that of the turn before is measured.

        Every matrix is cut into as many parts as there are turns, so that each mask has its share of each matrix and
        all of them together have every weight once.

        Raises:
            BudgetError: fewer weights than matrices.
        """
        assert isinstance(view, WeightView)
        self.measure(view.bank)
        table = view.bank.table
        room = view.n_vectors - len(table.targets)  # a part may have one weight more than its matrix's share
        if room < 1:
            raise BudgetError(
                f"{view.n_vectors} weights cannot sample {len(table.targets)} matrices; raise the budget to at least "
                f"{(len(table.targets) + 1) / table.model_parameters:.4g}"
            )
        turns = math.ceil(table.n_vectors / room)
        parts = []
        for target in table.targets:
            order = np.random.default_rng([view.seed, target.offset]).permutation(target.n)
            parts.append(np.sort(order[turn % turns :: turns]) + target.offset)
        return WeightMask(np.concatenate(parts))

    @torch.no_grad()
    def observe(self, bank: AnyBank) -> bool:
        """Take note of the gradient, before an optimizer step uses it, until the mask is chosen."""
        if self.decided:
            return False
        gradient = bank.vectors.grad
        if gradient is None or not any(name in OF_GRADIENT for name in self.forecast.needs):
            return True
        began = time.perf_counter()
        for module, values, seen in self._matrices(bank, gradient):
            self.sums.stepped(module, values, seen)
        self._charge(began)
        return True

    @torch.no_grad()
    def measure(self, bank: AnyBank) -> None:
        """Take note of how far the weights of the mask have moved since they entered, before they leave."""
        began = time.perf_counter()
        for module, values, seen in self._matrices(bank, bank.vectors):
            self.sums.displaced(module, values.abs_(), seen)
        self._charge(began)

    def watch_cost(self, bank: AnyBank, n_vectors: int, steps: int) -> dict[str, float]:
        """Steps of the watch, its seconds besides training, and bytes beyond the budget: of statistics and bank."""
        return {
            "foresight/watch_steps": steps,
            "foresight/movement_seconds": self.seconds,
            "foresight/movement_bytes": self.nbytes,
            "foresight/watch_bank_bytes": BYTES_PER_WEIGHT * (bank.n_vectors - n_vectors),
        }

    def _charge(self, began: float) -> None:
        self.seconds += time.perf_counter() - began
        self.nbytes = max(self.nbytes, self.sums.nbytes)

    def _matrices(self, bank: AnyBank, rows: Tensor) -> Iterator[tuple[str, Tensor, Tensor | None]]:
        """A number for every row of the bank, as matrices on the CPU: module, values, which of them are the bank's."""
        for target, part in bank.table.by_target(bank.ids):
            shape, local = self.sums.shapes[target.module], bank.ids[part] - target.offset
            values, seen = torch.zeros(target.n), torch.zeros(target.n, dtype=torch.bool)
            values[local], seen[local] = rows[part].flatten().float().cpu(), True
            yield target.module, values.view(shape), None if len(local) == target.n else seen.view(shape)

    # -- the decision -----------------------------------------------------------------------------------------------

    def mask(self, view: View) -> WeightMask:
        assert isinstance(view, WeightView)
        return view.bank.mask if self.decided else self._choose(view)

    @torch.no_grad()
    def _choose(self, view: WeightView) -> WeightMask:
        self.measure(view.bank)
        began, targets = time.perf_counter(), view.bank.table.target_of
        scored = (
            (targets[module], scores) for module, scores in self.forecast.scores(lambda: self.measured(view.bank))
        )
        mask = best_weights(scored, view.n_vectors)
        self._charge(began)
        self.sums.clear()
        self.decided = True
        return mask

    def measured(self, bank: WeightBank) -> Iterator[WatchedMatrix]:
        """What is known of every matrix now, one at a time."""
        read = bank.weights()
        for target in bank.table.targets:
            weight = read(target.module).cpu()
            stored = turned(weight, bank.model.get_submodule(target.module))
            yield WatchedMatrix(target.module, self.sums.read(target.module), stored)

    # -- state ------------------------------------------------------------------------------------------------------

    def state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        arrays = {name: tensor.numpy() for name, tensor in self.sums.tensors().items()}
        return arrays, {"decided": self.decided, "seconds": self.seconds, "nbytes": self.nbytes}

    def load_state(self, arrays: Mapping[str, np.ndarray], data: Mapping[str, Any]) -> None:
        if data.keys() != {"decided", "seconds", "nbytes"}:
            raise CheckpointError(f"the checkpoint is not of policy 'foresight' over single weights: {sorted(data)}")
        self.sums.load({name: torch.from_numpy(array.copy()) for name, array in arrays.items()})
        self.decided, self.seconds, self.nbytes = bool(data["decided"]), float(data["seconds"]), int(data["nbytes"])
