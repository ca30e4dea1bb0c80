"""What a run's masks may cost, by its settings: a share of full fine-tuning's step, seconds, or memory.

Shares and memory follow from the model's shapes. Seconds need the machine: when the run begins, forward passes and
backward passes to the embeddings are timed on training batches, and those of a mask are taken to last longer or shorter
in proportion to their operations. What was timed is in the checkpoint, so that a resumed run chooses the same masks.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from ..common.errors import ConfigError
from ..masks.costs import StepCosts
from ..masks.selection import Limit, select
from ..model.components import ComponentTable
from ..policies import policy_class
from ..policies.scouted import Scouted
from ..scoring.goodness import batch_loss
from ..scoring.probes import TextProbe
from ..scoring.taps import embeddings, logits_of
from .plan import make_plan
from .sharding import sharding_of

if TYPE_CHECKING:
    from .config import ForesightConfig
    from .trainer import ForesightTrainer

LIMITS = ("step_share", "step_seconds", "step_gib")
BATCHES, ROUNDS = 2, 3
"""Training batches that are timed, and how often each; the first round warms up."""


@dataclass(frozen=True)
class Pace:
    """How long passes over a training batch take on the slowest rank: medians, in seconds of wall time.

    Attributes:
        forward: of a forward pass; backward: of a backward pass to the embeddings.
        length: tokens of a row of those batches, padding included, on average.
    """

    forward: float
    backward: float
    length: float


def check_limits(args: ForesightConfig) -> None:
    """Raise ConfigError for limits out of range, that contradict each other or that the policy cannot keep."""
    given = [name for name in LIMITS if getattr(args, name) is not None]
    for name in given:
        value, most = getattr(args, name), 1 if name == "step_share" else math.inf
        if not (0 < value <= most and math.isfinite(value)):
            bound = "a share of a step of full fine-tuning, in (0, 1]" if most == 1 else "a number above 0"
            raise ConfigError(f"{name} is {value}; expected {bound}")
    if {"step_share", "step_seconds"} <= set(given):
        raise ConfigError("step_share and step_seconds are both set, and both limit the time of a step; remove one")
    for name in given:
        if args.granularity == "weights" or not policy_class(args.policy).ranks:
            raise ConfigError(
                f"{name} is {getattr(args, name)}, but policy {args.policy!r} over {args.granularity} ranks no "
                "components; remove it"
            )
        if policy_class(args.policy).forecasts and args.watch != "hold":
            raise ConfigError(
                f"{name} is {getattr(args, name)}, but watch {args.watch!r} trains components whatever they cost; use "
                "watch 'hold'"
            )
    if args.step_gib is not None and issubclass(policy_class(args.policy), Scouted):
        raise ConfigError(
            f"step_gib is {args.step_gib}, but policy {args.policy!r} trains all components before the run; remove it"
        )


class StepLimits:
    """The limits of one run.

    Args:
        model: without a bank; on the meta device, too.

    Attributes:
        pace: what was timed, where `step_seconds` is set; None before.
    """

    def __init__(self, model: nn.Module, table: ComponentTable, args: ForesightConfig):
        self.pace: Pace | None = None
        self._table, self._args = table, args
        self._costs = cache(lambda length: StepCosts(model, table, length, args.gradient_checkpointing))
        if args.step_share is not None or args.step_gib is not None:
            self._plan, self._way = make_plan(model, args, None), sharding_of(args)

    def of_masks(self) -> tuple[Limit, ...]:
        """What every mask of the run has to keep; that in seconds once passes are timed."""
        costs = {"step_share": self._share, "step_seconds": self._seconds, "step_gib": self._gib}
        given = {name: getattr(self._args, name) for name in LIMITS if name != "step_seconds" or self.pace is not None}
        return tuple(Limit(name, most, costs[name]) for name, most in given.items() if most is not None)

    def check(self, n_vectors: int) -> None:
        """Raise BudgetError if no mask of so many vectors keeps the limits that are known already."""
        if limits := self.of_masks():
            select(np.zeros(len(self._table)), self._table, n_vectors, limits=limits)

    def _share(self, components: np.ndarray) -> float:
        return self._plan.costs.share(components)

    def _gib(self, components: np.ndarray) -> float:
        return self._plan.step_bytes(components, self._way) / 2**30

    def _seconds(self, components: np.ndarray) -> float:
        """Of an optimizer step: timed passes, as much longer or shorter as their operations are more or fewer."""
        assert self.pace is not None
        costs = self._costs(self.pace.length)
        forward, backward = np.array(costs.operations(components)) / costs.floor
        passes = self.pace.forward * forward + self.pace.backward * backward
        return float(self._args.gradient_accumulation_steps * passes)

    def time(self, trainer: ForesightTrainer) -> None:
        """Time passes over the first training batches, once and only for `step_seconds`; to be called before masks are
        chosen. Collective. Gradients and random state stay as they were.
        """
        if self._args.step_seconds is None or self.pace is not None:
            return
        size = trainer.args.per_device_train_batch_size
        rows = list(islice(trainer.train_dataset, BATCHES * size))
        probes = [TextProbe.from_dataset(rows[at : at + size], size) for at in range(0, len(rows), size)]
        with _as_in_training(trainer):
            found = [[_timed(trainer, probe) for probe in probes] for _ in range(ROUNDS)]
        forward, backward = np.median(np.concatenate(found[1:]), 0)
        length = float(np.mean([probe.batches[0].input_ids.shape[1] for probe in probes]))
        ranks = trainer.bank.placement.gather((float(forward), float(backward), length))
        self.pace = Pace(*(max(values) for values in zip(*ranks, strict=True)))


def _timed(trainer: ForesightTrainer, probe: TextProbe) -> tuple[float, float]:
    """Seconds of a forward and of a backward pass over the probe's one batch."""
    model = trainer.model
    batch = probe.batches[0].to(model.device)
    with embeddings(model) as leaves, trainer.accelerator.autocast():
        began = _now()
        loss = batch_loss(logits_of(model, batch), batch)
        middle = _now()
        torch.autograd.grad(loss, leaves)
        return middle - began, _now() - middle


def _now() -> float:
    if torch.accelerator.is_available():
        torch.accelerator.synchronize()
    return time.perf_counter()


@contextmanager
def _as_in_training(trainer: ForesightTrainer) -> Iterator[None]:
    model, before = trainer.model, trainer.model.training
    with torch.random.fork_rng():
        model.train()
        try:
            yield
        finally:
            model.train(before)
            trainer.bank.placement.settle()
