"""When the mask is decided, and what happens then: the callback between the training loop and the bank."""

from __future__ import annotations

import logging
import math
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from transformers import TrainerCallback

from ..bank import WeightBank
from ..common.errors import MaskLeakError
from ..masks.masks import Mask, WeightMask, churn, every_weight, everything
from ..masks.selection import rotation, select
from ..model.weight_table import WeightTable
from ..policies import View
from ..policies.single_weights.weight_base import WeightView
from ..policies.single_weights.weight_foresight import WeightForesight
from ..scoring.virtual_moves import VirtualMoves
from .calendar import Calendar
from .limits import Pace
from .moments import restart
from .sharding import agreed
from .trials import share_now
from .watch_cost import watch_cost

if TYPE_CHECKING:
    from ..policies.base import Found
    from .trainer import ForesightTrainer
    from .watcher import Watcher

_log = logging.getLogger(__name__)


class RemaskCallback(TrainerCallback):
    """Probes and re-masks at step boundaries, when the `Calendar` says so."""

    def __init__(self, trainer: ForesightTrainer):
        self.trainer = trainer
        self.learning_rates = 0.0
        """Sum of learning rates since the run began: above zero, something in the mask must have moved."""
        self.seconds = 0.0
        self.choosing = 0.0
        """Wall time that the policy took to decide; scoring of single weights, trials and timed passes included."""
        self.tried_share: float | None = None
        """The head share that trials have found best."""

    # -- events of the training loop --------------------------------------------------------------------------------

    def on_train_begin(self, args, state, control, **kwargs):
        self._clock = time.perf_counter()
        self.calendar = Calendar.of(args, self.trainer.policy, state.max_steps)
        if state.global_step == 0:
            if self.trainer.scouting is not None:
                self.trainer.note(self.trainer.scouting.logged())
            if self.trainer.trials is not None:
                self.seconds += self.trainer.trials.seconds
                self.choosing += self.trainer.trials.seconds
                self.trainer.note(self.trainer.trials.logged())
            if self.trainer.retained is not None:
                self.seconds += self.trainer.retained.seconds
                self.trainer.note({"foresight/retained_seconds": self.trainer.retained.seconds})
        began = time.perf_counter()
        self.trainer.limits.time(self.trainer)
        self.choosing += time.perf_counter() - began
        if state.global_step == 0:
            self._at(0)

    def on_pre_optimizer_step(self, args, state, control, **kwargs):
        self.trainer.check_gradient()
        policy = self.trainer.policy
        if isinstance(policy, WeightForesight) and not policy.decided:
            began = time.perf_counter()
            policy.observe(cast(WeightBank, self.trainer.bank))
            self.choosing += time.perf_counter() - began
        self.learning_rates += self.trainer.optimizer.param_groups[0]["lr"]

    def on_step_end(self, args, state, control, **kwargs):
        self._at(state.global_step)
        now = time.perf_counter()
        self.seconds, self._clock = self.seconds + now - self._clock, now
        if state.global_step == state.max_steps:
            bank = self.trainer.bank
            self._check_moved(bank.unmoved(), len(bank.ids))
            bank.base.verify()
            watcher = self.trainer.watcher
            if watcher is not None and isinstance(watcher.scorer, VirtualMoves):
                watcher.trajectory.annotate(cost=watcher.cost())

    # -- what happens -----------------------------------------------------------------------------------------------

    def _vectors(self, step: int) -> int:
        return self.trainer.vectors_at(step, self.calendar.total_steps)

    def _at(self, step: int) -> None:
        if self.calendar.snapshot(step):
            self._snapshot(step)
        if self.calendar.decides(step):
            self._decide(step)
        elif step == 0:
            self._begin_watch()
        elif self.calendar.turns(step) or step in self.calendar.resizes:
            self._apply(step, self._watched(step))
        if self.calendar.restarts(step):
            restart(self.trainer.bank, self.trainer.bank_optimizer)
            if self.trainer.kept_moments is not None:
                self.trainer.kept_moments.clear()

    @property
    def _watcher(self) -> Watcher:
        assert self.trainer.watcher is not None  # the calendar takes snapshots only where there is one
        return self.trainer.watcher

    def _snapshot(self, step: int) -> None:
        trainer, watcher = self.trainer, self._watcher
        watcher.snapshot(step)
        if isinstance(watcher.scorer, VirtualMoves):
            trainer.note({f"foresight/{name}": value for name, value in watcher.cost().items()})
        if step == 0 and trainer.args.calibrate and watcher.scorer.name.startswith("attribution"):
            watcher.calibrate()
        for outcome in trainer.skill_log.resolve(step, self._ranking(-1)):
            trainer.note(
                {
                    "foresight/skill": outcome.skill,
                    "foresight/forecast_overlap": outcome.overlap,
                    "foresight/persistence_overlap": outcome.persistence_overlap,
                }
            )

    def _begin_watch(self) -> None:
        trainer = self.trainer
        if trainer.args.watch in ("hold", "rotate"):
            self._apply(0, self._watched(0))
        else:
            numbers = trainer.bank.table
            mask = every_weight(numbers) if isinstance(numbers, WeightTable) else everything(trainer.table)
            self._apply(0, mask, n_vectors=numbers.n_vectors)

    def _watched(self, step: int) -> Mask | WeightMask:
        """What is trained within the budget before the first decision."""
        trainer = self.trainer
        if isinstance(trainer.policy, WeightForesight):
            view = self._view(step)
            assert isinstance(view, WeightView)
            return trainer.policy.watched(view, step // self.calendar.probe_every)
        if not self.calendar.rotates:
            n = self._vectors(step)
            share, limits = share_now(trainer, n), trainer.limits.of_masks()
            return select(self._ranking(0), trainer.table, n, share, trainer.args.cost_aware, limits)
        turns = rotation(trainer.table, self._vectors(step), trainer.mask_seed)
        return turns[step // self.calendar.probe_every % len(turns)]

    def _ranking(self, snapshot: int) -> np.ndarray:
        """By what the run's target ranks components at a snapshot, [n_components]."""
        target, watcher = self.trainer.target, self._watcher
        return target.at(target.parts(watcher.series(), watcher.damage()), snapshot)

    def _decide(self, step: int) -> None:
        trainer, policy = self.trainer, self.trainer.policy
        began = time.perf_counter()
        mask = policy.mask(self._view(step))
        self.choosing += time.perf_counter() - began
        ends_watch = policy.forecasts and step == self.calendar.first_decision
        if ends_watch and isinstance(policy, WeightForesight):
            trainer.note(watch_cost(policy, trainer.bank, self._vectors(step), step))
        self._apply(step, mask, rollback=ends_watch and trainer.args.watch == "full-rollback")
        if policy.last_forecast is not None:
            trainer.skill_log.record(policy.last_forecast)
        if policy.verdict is not None:
            self._explain(step, policy.verdict)

    def _explain(self, step: int, verdict: Found) -> None:
        """Log what the gate found, in words in the trajectory's head."""
        trajectory = self._watcher.trajectory
        said = {**trajectory.info.get("gate", {}), str(step): verdict.words}
        trajectory.annotate(gate={at: words for at, words in said.items() if int(at) <= step})
        _log.info("step %d: %s", step, verdict.words)
        numbers = {"gate": float(verdict.opens), "gate_gain": verdict.gain}
        self.trainer.note({f"foresight/{name}": value for name, value in numbers.items() if math.isfinite(value)})

    def _view(self, step: int) -> View:
        trainer, args = self.trainer, self.trainer.args
        rest, n_vectors = self.calendar.total_steps - step, self._vectors(step)
        view = View(
            table=trainer.table,
            n_vectors=n_vectors,
            step=step,
            total_steps=self.calendar.total_steps,
            series=self._watcher.series() if self.calendar.scored else None,
            seed=trainer.mask_seed,
            horizon=args.horizon or min(args.remask_every or rest, rest),
            cutoff=args.cutoff,
            damage=self._watcher.damage() if self.calendar.scored else None,
            head_share=share_now(trainer, n_vectors),
            cost_aware=args.cost_aware,
            limits=trainer.limits.of_masks(),
        )
        if args.granularity != "weights":
            return view
        return WeightView(**vars(view), bank=cast(WeightBank, trainer.bank), probe=trainer.probe)

    def _apply(self, step: int, mask: Mask | WeightMask, rollback: bool = False, n_vectors: int | None = None) -> None:
        trainer, bank = self.trainer, self.trainer.bank
        before, active = bank.mask, len(bank.ids)
        mask = agreed(mask, bank)
        kept = trainer.kept_moments
        if kept is not None:
            kept.take(bank, trainer.bank_optimizer, mask)
        done = bank.remask(
            mask,
            trainer.bank_optimizer,
            restart=trainer.args.moments == "restart",
            rollback=rollback,
            n_vectors=n_vectors or self._vectors(step),
        )
        if kept is not None:
            kept.give(bank, trainer.bank_optimizer)
        if step > 0 and not rollback:
            self._check_moved(done.unmoved, active)
        if trainer.args.torch_compile:
            torch.compiler.reset()  # hooks have moved: compiled code must not remember where they were
        if mask != before:
            trainer.schedule.append(step, cast(Mask, mask))  # of the kind that the schedule has
            trainer.save_schedule()
        trainer.note(
            {
                f"foresight/{trainer.args.granularity}": len(mask),
                "foresight/churn": churn(before, mask),
                "foresight/entered_vectors": done.entered,
                "foresight/budget": bank.vectors.numel() / trainer.table.model_parameters,
                "foresight/scoring_share": self.scoring_share(),
                **({} if kept is None else {"foresight/kept_moment_bytes": kept.nbytes}),
                **{
                    f"foresight/predicted_{limit.setting}": limit.cost(np.array(mask.components))
                    for limit in trainer.limits.of_masks()
                },
            }
        )

    def scoring_share(self) -> float:
        """Share of the run's wall time that went into scoring and choosing, in [0, 1]."""
        watcher = self.trainer.watcher
        spent = self.seconds + time.perf_counter() - self._clock
        scoring = self.choosing + (watcher.seconds if watcher is not None else 0.0)
        return scoring / spent if spent > 0 else 0.0

    def _check_moved(self, unmoved: int, active: int) -> None:
        if self.learning_rates > 0 and 0 < active == unmoved:
            raise MaskLeakError(
                f"none of the {active} {self.trainer.bank.table.unit} in the mask has moved after "
                f"{self.trainer.state.global_step} steps: no gradient reaches the bank. Check that the loss has "
                "trained tokens (labels other than -100) and that nothing replaces the model's modules after the "
                "trainer was built."
            )

    # -- state ------------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        return {
            "learning_rates": self.learning_rates,
            "seconds": self.seconds,
            "choosing": self.choosing,
            "tried_share": self.tried_share,
            "pace": asdict(pace) if (pace := self.trainer.limits.pace) is not None else None,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.tried_share = state.get("tried_share")
        self.learning_rates, self.seconds = state["learning_rates"], state["seconds"]
        self.choosing = state["choosing"]
        self.trainer.limits.pace = Pace(**state["pace"]) if state.get("pace") else None
