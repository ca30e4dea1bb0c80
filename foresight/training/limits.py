"""The most that a run's masks may cost, by its settings: a share of full fine-tuning's step, seconds, or memory.

Shares and memory follow from the model's shapes. Seconds need the machine: when the run begins, forward passes and
backward passes to the embeddings are timed on training batches, and the times of a mask's passes are scaled by their
operation counts. The timings are in the checkpoint, so that a resumed run chooses the same masks.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cache
from itertools import islice

import numpy as np
import torch
from datasets import Dataset
from torch import nn

from ..masks.costs import StepCosts
from ..masks.selection import Limit, select
from ..model.components import ComponentTable
from ..model.placement import Placement
from ..scoring.goodness import batch_loss
from ..scoring.probes import TextProbe
from ..scoring.taps import embeddings, hidden_of
from .config import ForesightConfig
from .plan import Plan, sharding_of
from .run import Run

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


class StepLimits:
    """The limits of one run of a model without a bank, which may lie on the meta device.

    Attributes:
        pace: what was timed, where `limits.seconds` is set; None before.
        rows: prepared training rows to time passes on; set before `time`.
    """

    rows: Dataset
    pace: Pace | None = None

    def __init__(self, model: nn.Module, table: ComponentTable, args: ForesightConfig):
        self._given: dict[str, float] = args.limits or {}  # type: ignore[assignment]  # the settings were checked
        self._table, self._args = table, args
        self._costs = cache(lambda length: StepCosts(model, table, length, args.gradient_checkpointing))
        if self._given.keys() & {"share", "gib"}:
            self._plan, self._way = Plan(model, args, None), sharding_of(args)

    def of_masks(self) -> tuple[Limit, ...]:
        """What every mask of the run has to keep; that in seconds once passes are timed."""
        costs: dict[str, Callable[[np.ndarray], float]] = {
            "share": lambda components: self._plan.costs.share(components),
            "seconds": self._seconds,
            "gib": lambda components: self._plan.step_bytes(components, self._way) / 2**30,
        }
        known = (name for name in costs if name in self._given and (name != "seconds" or self.pace is not None))
        return tuple(Limit(f"limits.{name}", self._given[name], costs[name]) for name in known)

    def check(self, n_vectors: int) -> None:
        """Raise BudgetError if no mask of so many vectors keeps the limits that are known already."""
        if limits := self.of_masks():
            select(np.zeros(len(self._table)), self._table, n_vectors, limits=limits)

    def _seconds(self, components: np.ndarray) -> float:
        """Of an optimizer step: timed passes, scaled by operation count."""
        assert self.pace is not None
        costs = self._costs(self.pace.length)
        forward, backward = np.array(costs.operations(components)) / costs.floor
        passes = self.pace.forward * forward + self.pace.backward * backward
        return float(self._args.gradient_accumulation_steps * passes)

    def time(self, run: Run) -> None:
        """Time passes over the first training batches, once and only for `limits.seconds`; to be called before masks
        are chosen. Collective. Gradients and random state stay as they were.
        """
        if "seconds" not in self._given or self.pace is not None:
            return
        size = self._args.per_device_train_batch_size
        rows = list(islice(self.rows, BATCHES * size))
        probes = [TextProbe.from_dataset(rows[at : at + size], size) for at in range(0, len(rows), size)]
        with _as_in_training(run.model, run.bank.placement):
            found = [[_timed(run, probe) for probe in probes] for _ in range(ROUNDS)]
        forward, backward = np.median(np.concatenate(found[1:]), 0)
        length = float(np.mean([probe.batches[0].input_ids.shape[1] for probe in probes]))
        ranks = run.bank.placement.gather((float(forward), float(backward), length))
        self.pace = Pace(*(max(values) for values in zip(*ranks, strict=True)))

    def state(self) -> dict[str, float] | None:
        return None if self.pace is None else asdict(self.pace)

    def load_state(self, state: dict[str, float] | None) -> None:
        self.pace = Pace(**state) if state else None


def _timed(run: Run, probe: TextProbe) -> tuple[float, float]:
    """Seconds of a forward and of a backward pass over the probe's one batch."""
    model, batch = run.model, probe.batches[0].to(run.model.device)
    with run.autocast():
        began = _now()
        with torch.no_grad():
            hidden = hidden_of(model, batch)
            middle = _now()
            batch_loss(model, hidden, batch)
        forward, head = _now() - began, _now() - middle
        with embeddings(model) as leaves:
            hidden = hidden_of(model, batch)
            began = _now()
            torch.autograd.grad(batch_loss(model, hidden, batch), leaves)
        # The loss takes its part of the backward pass at once, along with its forward pass.
        return forward, max(_now() - began - head, head)


def _now() -> float:
    if torch.accelerator.is_available():
        torch.accelerator.synchronize()
    return time.perf_counter()


@contextmanager
def _as_in_training(model: nn.Module, placement: Placement) -> Iterator[None]:
    before = model.training
    with torch.random.fork_rng():
        model.train()
        try:
            yield
        finally:
            model.train(before)
            placement.settle()
