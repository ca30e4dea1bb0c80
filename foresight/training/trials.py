"""The split of a budget between heads and MLP blocks: given, a prior's, or the one that learns fastest in short trials.

A trial trains the mask that the run would begin with, under one candidate share, for a few steps at the run's learning
rate (constant, from fresh moments), is judged by the loss on training rows that it has not seen, and is undone to the
bit. Own definition.
"""

from __future__ import annotations

import math
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from torch import nn

from ..common.errors import ConfigError, NonFiniteError
from ..masks.masks import Mask
from ..masks.selection import head_share_of
from ..policies import View
from ..policies.prior import Prior
from ..scoring.goodness import batch_loss
from ..scoring.probes import TextProbe
from ..scoring.taps import logits_of, scoring_mode
from ..trajectory.trajectory import Trajectory
from .scout import held_bytes, planned_steps, trained

if TYPE_CHECKING:
    from .trainer import ForesightTrainer

SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Candidates. Shares that give the same mask are tried once."""


@dataclass(frozen=True)
class Trials:
    """What trials found, and took.

    Attributes:
        head_share: the share of the trial with the lowest loss; equal losses go to the smaller share.
        loss: of that trial on the held-out rows, in nats a token; spread: highest loss of a trial minus lowest.
        trials: different masks tried; steps: optimizer steps of all of them; rows: examples that each trained on.
        seconds: wall time of all, scores and evaluation included.
        bytes: trained values, gradients and moments held during a trial; the run holds as much.
    """

    head_share: float
    loss: float
    spread: float
    trials: int
    steps: int
    rows: int
    seconds: float
    bytes: int

    def logged(self) -> dict[str, float]:
        """The numbers as a run logs them."""
        return {f"foresight/trial_{name}": value for name, value in asdict(self).items()}


def try_shares(trainer: ForesightTrainer) -> Trials:
    """Try all candidate shares for a trainer that has not begun to train; it is as it was afterwards.

    Raises:
        ConfigError: fewer than two training rows.
        NonFiniteError: a trial diverged; the weights are back.
    """
    args, began, total_steps = trainer.args, time.perf_counter(), planned_steps(trainer)
    available, a_step = len(trainer.train_dataset), args.train_batch_size * args.gradient_accumulation_steps
    if available < 2:
        raise ConfigError(f"head_share 'trials' needs training rows to hold out; the dataset has {available}")
    trainer.limits.time(trainer)
    order = np.random.default_rng([args.seed]).permutation(available)
    rows = order[: min(args.trial_steps * a_step, available // 2)]
    held_out = order[len(rows) : len(rows) + args.probe_examples]
    probe = TextProbe.from_dataset(trainer.train_dataset.select(held_out), args.probe_batch_size)
    steps, held, losses = 0, 0, {}
    masks: dict[Mask, float] = {}
    for share, mask in _first_masks(trainer, total_steps):
        masks.setdefault(mask, share)
    for mask, share in masks.items():
        size = trainer.vectors_at(0, total_steps)
        with trained(trainer, mask, size, rows, args.learning_rate) as prober:
            losses[share] = _loss(trainer.model, probe)
            if not math.isfinite(losses[share]):
                raise NonFiniteError(
                    f"the trial of head share {share} diverged at learning rate {args.learning_rate:.3g}; lower it, or "
                    "give head_share a number"
                )
            steps += prober.state.global_step
            held = max(held, held_bytes(prober))
    best = min(losses, key=losses.__getitem__)
    spread = max(losses.values()) - losses[best]
    seconds = time.perf_counter() - began
    return Trials(best, losses[best], spread, len(losses), steps, len(rows), seconds, held)


def share_now(trainer: ForesightTrainer, n_vectors: int) -> float | None:
    """The head share of masks of so many vectors, by the run's settings; None ranks all kinds together.

    ``prior`` is the share that the mask of policy `prior` has (ties broken by the run's mask seed).

    Raises:
        ConfigError: the prior knows nothing of a kind that the model has.
    """
    share: float | str | None = trainer.args.head_share
    if share == "trials":
        return trainer.remasking.tried_share
    if share == "prior":
        prior = Prior(trainer.history, trainer.target)
        table = trainer.table
        return head_share_of(prior.mask(View(table, n_vectors, 0, 1, seed=trainer.mask_seed)), table)
    assert not isinstance(share, str)  # ForesightConfig knows no other
    return share


def _first_masks(trainer: ForesightTrainer, total_steps: int) -> list[tuple[float, Mask]]:
    """The mask of every share that the run would begin with, by the scores before training."""
    policy, watcher, series, damage = trainer.policy, trainer.watcher, None, None
    if policy.needs_scores:
        assert watcher is not None
        watcher.trajectory = Trajectory.create(None, trainer.table)  # of the trials alone; the run measures again
        spent = watcher.seconds
        watcher.snapshot(0)
        if trainer.args.calibrate and watcher.scorer.name.startswith("attribution"):
            watcher.calibrate()
        series, damage = watcher.series(), watcher.damage()
        watcher.seconds = spent  # the trials' own cost has it
    found = []
    for share in SHARES:
        size = trainer.vectors_at(0, total_steps)
        view = View(
            trainer.table, size, 0, total_steps, series, trainer.mask_seed, damage=damage, head_share=share,
            cost_aware=trainer.args.cost_aware, limits=trainer.limits.of_masks(),
        )  # fmt: skip
        if policy.forecasts:
            assert series is not None
            found.append((share, view.select(trainer.target.at(trainer.target.parts(series, damage), 0))))
        else:
            found.append((share, cast(Mask, policy.mask(view))))
    return found


@torch.no_grad()
def _loss(model: nn.Module, probe: TextProbe) -> float:
    """Mean loss of all labelled positions of the probe, in nats."""
    total, count = 0.0, 0
    with scoring_mode(model):
        for batch in probe.batches:
            here = batch.to(model.device)
            n = int(torch.count_nonzero(here.targets >= 0))
            total, count = total + n * batch_loss(logits_of(model, here), here).item(), count + n
    return total / count
