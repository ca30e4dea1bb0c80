"""When the mask is decided, and what happens then: the callback between the training loop and the bank."""

from __future__ import annotations

import logging
import time

import numpy as np
import torch
from transformers import TrainerCallback

from ..common.errors import MaskLeakError, NonFiniteError
from ..common.plugins import part
from ..masks.masks import Mask, WeightMask, churn
from ..masks.selection import rotation, select
from ..model.components import component_table
from ..model.self_check import check_components
from . import checkpoint
from .calendar import Calendar
from .holding import judged
from .run import Run

_log = logging.getLogger(__name__)


class RemaskCallback(TrainerCallback):
    """Probes and re-masks at step boundaries, when the run's `Calendar` says so."""

    def __init__(self, run: Run):
        self.run, self._clock = run, time.perf_counter()

    # -- events of the training loop --------------------------------------------------------------------------------

    def on_train_begin(self, args, state, control, **kwargs):
        run, self._clock = self.run, time.perf_counter()
        run.step = state.global_step
        # Not the run's own table: single vectors and weights have no activations to look at.
        check_components(run.model, component_table(run.model))
        run.bank.placement.settle()
        run.calendar = Calendar(args, run.policy, state.max_steps, run.cadence(state.max_steps))
        run.calendar.check(args.get_warmup_steps(state.max_steps))
        if state.global_step == 0:
            if run.scouting is not None:
                run.log(run.scouting.logged())
            if run.retained is not None:
                run.seconds += run.retained.seconds
                self._note(retained_seconds=run.retained.seconds)
        if run.limits is not None:
            began = time.perf_counter()
            run.limits.time(run)
            run.choosing += time.perf_counter() - began
        if state.global_step == 0:
            self._at(0)

    def on_step_begin(self, args, state, control, **kwargs):
        if self.run.collects(state.global_step):
            self.run.watcher.along.start()

    def on_pre_optimizer_step(self, args, state, control, **kwargs):
        bank, rate = self.run.bank, self.run.optimizer.param_groups[0]["lr"]
        # DeepSpeed keeps gradients to itself: there, broken values are found before a checkpoint is written.
        if bank.vectors.grad is not None and not torch.isfinite(bank.vectors.grad).all():
            raise NonFiniteError(diverged(self.run, "a gradient is NaN or infinite", state.global_step + 1))
        self.run.learning_rates += rate

    def on_step_end(self, args, state, control, **kwargs):
        run = self.run
        run.step = state.global_step
        if run.watcher is not None and run.watcher.along is not None:
            run.watcher.along.stop()
        self._at(state.global_step)
        now = time.perf_counter()
        self.run.seconds, self._clock = self.run.seconds + now - self._clock, now
        if state.global_step == state.max_steps:
            self._check_moved(self.run.bank.unmoved(), len(self.run.bank.ids))

    def on_train_end(self, args, state, control, **kwargs):
        watcher = self.run.watcher
        self.run.bank.base.verify()
        spent = self.run.choosing + (watcher.seconds if watcher is not None else 0.0)
        if spent:
            _log.info("scoring and choosing took %.1f s, %.1f %% of the run", spent, 100 * self.scoring_share())
        if watcher is not None and (cost := watcher.cost()):
            watcher.trajectory.annotate(cost=cost)

    # -- what happens -----------------------------------------------------------------------------------------------

    def _at(self, step: int) -> None:
        calendar = self.run.calendar
        if calendar.snapshot(step):
            self._snapshot(step)
        if calendar.decides(step):
            self._decide(step)
        elif step == 0 and self.run.policy.watch.startswith("full-"):
            numbers = self.run.numbers
            self._apply(0, self.run.granularity.everything(numbers), n_vectors=numbers.available)
        elif step == 0 or calendar.turns(step) or step in calendar.resizes:
            self._apply(step, self._watched(step))
        if calendar.restarts(step):
            self.run.bank.restart(self.run.optimizer)

    def _snapshot(self, step: int) -> None:
        run, watcher = self.run, self.run.watcher
        assert watcher is not None  # the calendar takes snapshots only where there is one
        cadence, later = run.calendar.cadence, step > 0
        watcher.snapshot(step, cadence.each if later else cadence.first, cadence.patches[later])
        if cost := watcher.cost():
            self._note(**cost)
        if step == 0:
            self._announce()
        for outcome in run.skill_log.resolve(step, run.ranking(-1)):
            persistence = outcome.persistence_overlap
            self._note(skill=outcome.skill, forecast_overlap=outcome.overlap, persistence_overlap=persistence)

    def _announce(self) -> None:
        """Log what scoring has taken so far, and what is to come."""
        run, watcher = self.run, self.run.watcher
        calendar, cadence, probe = run.calendar, run.calendar.cadence, watcher.probe
        later = sum(calendar.snapshot(step) for step in calendar.steps) - 1
        told = f"scored {probe.n_examples} examples in {watcher.seconds:.1f} s, {len(probe.batches)} passes"
        if later and cadence.along:
            told += f"; {later} more snapshots come along with training"
        elif later:
            seconds = watcher.seconds * later * cadence.each / cadence.first
            told += f"; {later} more snapshots of {cadence.each} examples will take about {seconds:.0f} s"
        _log.info(told)

    def _watched(self, step: int) -> Mask | WeightMask:
        """What is trained within the budget before the first decision."""
        run = self.run
        if (own := run.policy.watched(run.view(step))) is not None:
            return own
        n_vectors = run.vectors_at(step)
        if not run.calendar.rotates:
            share, limits = run.head_share(n_vectors), run.mask_limits
            return select(run.ranking(0), run.table, n_vectors, share, run.cost_aware, limits)
        turns = rotation(run.table, n_vectors, run.mask_seed)
        return turns[step // run.calendar.cadence.every % len(turns)]

    def _decide(self, step: int) -> None:
        run, policy = self.run, self.run.policy
        began = time.perf_counter()
        view = run.view(step)
        mask, words, notes = judged(run, policy.mask(view), view)
        run.choosing += time.perf_counter() - began
        ends_watch = policy.forecasts and step == run.calendar.first_decision
        self._apply(step, mask, rollback=ends_watch and policy.watch == "full-rollback")
        if found := {**policy.notes, **notes}:
            self._note(**found)
        if policy.last_forecast is not None:
            run.skill_log.record(policy.last_forecast)
        if words:
            self._explain(step, words)

    def _explain(self, step: int, words: str) -> None:
        """Log why a mask was chosen, and note it in the trajectory's head."""
        trajectory = self.run.trajectory
        assert trajectory is not None  # whoever explains has read it
        said = {**trajectory.info.get("gate", {}), str(step): words}
        trajectory.annotate(gate={at: words for at, words in said.items() if int(at) <= step})
        _log.info("step %d: %s", step, words)

    def _apply(self, step: int, mask: Mask | WeightMask, rollback: bool = False, n_vectors: int | None = None) -> None:
        run, bank = self.run, self.run.bank
        before, active = bank.mask, len(bank.ids)
        if bank.placement.world > 1:  # every rank plans
            mask = part("training.sharding.agreed")(mask, bank)
        rows = n_vectors or run.vectors_at(step)
        entered, unmoved = bank.remask(mask, run.optimizer, rollback=rollback, n_vectors=rows)
        if step > 0 and not rollback:
            self._check_moved(unmoved, active)
        if run.args.torch_compile:
            torch.compiler.reset()  # hooks have moved: compiled code must not remember where they were
        if mask != before:
            run.schedule.append(step, mask)
            run.save_schedule()
        numbers = {
            run.args.granularity: len(mask),
            "churn": churn(before, mask),
            "entered_vectors": entered,
            "budget": bank.vectors.numel() / run.table.model_parameters,
            "scoring_share": self.scoring_share(),
        }
        for limit in run.mask_limits:
            numbers[f"predicted_step_{limit.setting.removeprefix('limits.')}"] = limit.cost(np.array(mask.components))
        self._note(**numbers)

    def _note(self, **numbers: float) -> None:
        self.run.log({f"foresight/{name}": number for name, number in numbers.items()})

    def scoring_share(self) -> float:
        """Share of the run's wall time that went into scoring and choosing, in [0, 1]."""
        watcher = self.run.watcher
        spent = self.run.seconds + time.perf_counter() - self._clock
        scoring = self.run.choosing + (watcher.seconds if watcher is not None else 0.0)
        return scoring / spent if spent > 0 else 0.0

    def _check_moved(self, unmoved: int, active: int) -> None:
        if self.run.learning_rates > 0 and 0 < active == unmoved:
            raise MaskLeakError(
                f"none of the {active} {self.run.numbers.unit} in the mask has moved after {self.run.step} steps: no "
                "gradient reaches the bank. Check that the loss has trained tokens (labels other than -100) and that "
                "nothing replaces the model's modules after the trainer was built."
            )


def diverged(run: Run, what: str, step: int) -> str:
    """The message for a loss or gradient that is not finite, before optimizer step `step` is taken."""
    last = checkpoint.last_complete(run.output)
    return (
        f"{what} at step {step}, learning rate {run.optimizer.param_groups[0]['lr']:.3g}; no step was taken. Last good "
        f"checkpoint: {last or 'none'}. Lower learning_rate or max_grad_norm, or look for broken rows in the data, and "
        "resume"
    )
