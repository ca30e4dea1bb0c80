"""When the mask is decided, and what happens then: the callback between the training loop and the bank."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import torch
from transformers import TrainerCallback

from ..errors import MaskLeakError
from ..masks import Mask, churn, everything, rotation, select
from ..policies import View
from .calendar import Calendar
from .sharding import agreed

if TYPE_CHECKING:
    from .trainer import ForesightTrainer
    from .watcher import Watcher


class RemaskCallback(TrainerCallback):
    """Probes and re-masks at step boundaries, when the `Calendar` says so."""

    def __init__(self, trainer: ForesightTrainer):
        self.trainer = trainer
        self.learning_rates = 0.0
        """Sum of learning rates since the run began: above zero, something in the mask must have moved."""
        self.seconds = 0.0

    # -- events of the training loop --------------------------------------------------------------------------------

    def on_train_begin(self, args, state, control, **kwargs):
        self._clock = time.perf_counter()
        self.calendar = Calendar.of(args, self.trainer.policy, state.max_steps)
        if state.global_step == 0:
            self._at(0)

    def on_pre_optimizer_step(self, args, state, control, **kwargs):
        self.trainer.check_gradient()
        self.learning_rates += self.trainer.optimizer.param_groups[0]["lr"]

    def on_step_end(self, args, state, control, **kwargs):
        self._at(state.global_step)
        now = time.perf_counter()
        self.seconds, self._clock = self.seconds + now - self._clock, now
        if state.global_step == state.max_steps:
            bank = self.trainer.bank
            self._check_moved(bank.unmoved(), len(bank.ids))
            bank.base.verify()

    # -- what happens -----------------------------------------------------------------------------------------------

    def _at(self, step: int) -> None:
        if self.calendar.snapshot(step):
            self._snapshot(step)
        if self.calendar.decides(step):
            self._decide(step)
        elif step == 0:
            self._begin_watch()
        elif self.calendar.turns(step):
            self._apply(step, self._turn(step))

    @property
    def _watcher(self) -> Watcher:
        assert self.trainer.watcher is not None  # the calendar takes snapshots only where there is one
        return self.trainer.watcher

    def _snapshot(self, step: int) -> None:
        trainer, watcher = self.trainer, self._watcher
        watcher.snapshot(step)
        if step == 0 and trainer.args.calibrate and watcher.scorer.name.startswith("attribution"):
            watcher.calibrate()
        for outcome in trainer.skill_log.resolve(step, watcher.series().values[:, -1]):
            trainer.note(
                {
                    "foresight/skill": outcome.skill,
                    "foresight/forecast_overlap": outcome.overlap,
                    "foresight/persistence_overlap": outcome.persistence_overlap,
                }
            )

    def _begin_watch(self) -> None:
        trainer = self.trainer
        if trainer.args.watch == "hold":
            first = self._watcher.series().values[:, 0]
            self._apply(0, select(first, trainer.table, trainer.n_vectors))
        elif trainer.args.watch == "rotate":
            self._apply(0, self._turn(0))
        else:
            self._apply(0, everything(trainer.table), n_vectors=trainer.table.n_vectors)

    def _turn(self, step: int) -> Mask:
        turns = rotation(self.trainer.table, self.trainer.n_vectors, self.trainer.mask_seed)
        return turns[step // self.calendar.probe_every % len(turns)]

    def _decide(self, step: int) -> None:
        trainer, policy = self.trainer, self.trainer.policy
        mask = policy.mask(self._view(step))
        ends_watch = policy.forecasts and step == self.calendar.first_decision
        self._apply(step, mask, rollback=ends_watch and trainer.args.watch == "full-rollback")
        if policy.last_forecast is not None:
            trainer.skill_log.record(policy.last_forecast)

    def _view(self, step: int) -> View:
        trainer, args = self.trainer, self.trainer.args
        rest = self.calendar.total_steps - step
        return View(
            table=trainer.table,
            n_vectors=trainer.n_vectors,
            step=step,
            total_steps=self.calendar.total_steps,
            series=self._watcher.series() if self.calendar.scored else None,
            seed=trainer.mask_seed,
            horizon=args.horizon or min(args.remask_every or rest, rest),
            cutoff=args.cutoff,
        )

    def _apply(self, step: int, mask: Mask, rollback: bool = False, n_vectors: int | None = None) -> None:
        trainer, bank = self.trainer, self.trainer.bank
        before, active = bank.mask, len(bank.ids)
        mask = agreed(mask, bank)
        done = bank.remask(
            mask,
            trainer.bank_optimizer,
            restart=trainer.args.moments == "restart",
            rollback=rollback,
            n_vectors=n_vectors or trainer.n_vectors,
        )
        if step > 0 and not rollback:
            self._check_moved(done.unmoved, active)
        if trainer.args.torch_compile:
            torch.compiler.reset()  # hooks have moved: compiled code must not remember where they were
        if mask != before:
            trainer.schedule.append(step, mask)
            trainer.save_schedule()
        trainer.note(
            {
                "foresight/components": len(mask),
                "foresight/churn": churn(before, mask),
                "foresight/entered_vectors": done.entered,
                "foresight/budget": bank.vectors.numel() / trainer.table.model_parameters,
                "foresight/scoring_share": self.scoring_share(),
            }
        )

    def scoring_share(self) -> float:
        """Share of the run's wall time that went into scoring, in [0, 1]."""
        watcher = self.trainer.watcher
        spent = self.seconds + time.perf_counter() - self._clock
        return watcher.seconds / spent if watcher is not None and spent > 0 else 0.0

    def _check_moved(self, unmoved: int, active: int) -> None:
        if self.learning_rates > 0 and 0 < active == unmoved:
            raise MaskLeakError(
                f"none of the {active} vectors in the mask has moved after {self.trainer.state.global_step} "
                "steps: no gradient reaches the bank. Check that the loss has trained tokens (labels other than "
                "-100) and that nothing replaces the model's modules after the trainer was built."
            )

    # -- state ------------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, float]:
        return {"learning_rates": self.learning_rates, "seconds": self.seconds}

    def load_state_dict(self, state: dict[str, float]) -> None:
        self.learning_rates, self.seconds = state["learning_rates"], state["seconds"]
