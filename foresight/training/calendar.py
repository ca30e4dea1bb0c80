"""The calendar of a run: the optimizer steps at which it takes snapshots, rotates masks and chooses masks."""

from __future__ import annotations

import math

from ..common.errors import ConfigError
from ..masks.budget import BudgetSchedule
from ..policies.policy import Policy
from .settings import MaskSettings


class Calendar:
    """When things happen, in optimizer steps done; step 0 is before training. Settings and policy make it; forecasting
    policies watch before they decide.

    Attributes:
        total_steps: length of the run.
        first_decision: step at which the policy first chooses the mask; the steps before it are the watch.
        remask_every: steps between decisions after the first, up to `last_decision`; 0 for no other.
        probe_every: steps between snapshots, and between turns of rotating masks.
        probes: whether snapshots are taken at that cadence.
        scored: whether the policy chooses by scores at all, and so needs those of step 0.
        remasks: whether it looks at new scores at every decision.
        rotates: whether masks take turns during the watch.
        own_steps: further steps at which the policy decides (those of a replayed schedule).
        resizes: steps after which the bank has another size (a budget schedule's); the mask is then chosen anew.
        restart_every: steps between restarts of the mask's Adam moments; 0 for none.
    """

    def __init__(self, args: MaskSettings, policy: Policy, total_steps: int):
        self.total_steps = total_steps
        self.first_decision = (policy.watch_steps or max(1, total_steps // 5)) if policy.forecasts else 0
        self.last_decision = policy.latest * total_steps
        self.remask_every, self.probe_every, self.restart_every = (
            args.remask_every,
            args.probe_every,
            args.restart_every,
        )
        self.probes = args.record or (policy.needs_scores and policy.forecasts)
        self.scored, self.remasks, self.own_steps = policy.needs_scores, policy.remasks, policy.own_steps
        self.rotates = policy.watch == "rotate"
        self.resizes = BudgetSchedule.of(args.budget_schedule).boundaries(total_steps)

    def decides(self, step: int) -> bool:
        """Whether the policy chooses a mask after `step` steps; never at the end, when nothing is left to train."""
        since = step - self.first_decision
        due = self.remask_every > 0 and since % self.remask_every == 0 and step <= self.last_decision
        again = since > 0 and (due or step in self.resizes)
        return step < self.total_steps and (since == 0 or again or step in self.own_steps)

    def turns(self, step: int) -> bool:
        """Whether the next of the rotating masks has its turn."""
        return self.rotates and step < min(self.first_decision, self.total_steps) and step % self.probe_every == 0

    def restarts(self, step: int) -> bool:
        """Whether the Adam moments of the whole mask start afresh after `step` steps; never at the ends of the run."""
        return self.restart_every > 0 and 0 < step < self.total_steps and step % self.restart_every == 0

    def snapshot(self, step: int) -> bool:
        """Whether the components are scored after `step` steps."""
        if self.probes and step % self.probe_every == 0:
            return True
        return self.scored and (step == 0 or (self.remasks and self.decides(step)))

    def check(self, warmup_steps: int) -> None:
        """Refuse a run that is over before it has really begun.

        Raises:
            ConfigError: the learning rate would still be warming up at its end, or the policy would never decide.
        """
        if 0 < self.total_steps <= warmup_steps:
            raise ConfigError(
                f"the run has {self.total_steps} steps, and warmup_steps stands for {warmup_steps}: it ends before "
                "its learning rate is reached; lower warmup_steps"
            )
        if 0 < self.total_steps <= self.first_decision:
            raise ConfigError(
                f"the run has {self.total_steps} steps, and the policy watches for {self.first_decision} before it "
                "first chooses a mask; lower policy_params.watch_steps, or train for longer"
            )

    @property
    def steps(self) -> range:
        """0 to `total_steps`, both included."""
        return range(self.total_steps + 1)


def total_steps(max_steps: int, epochs: float, rows: int | None, batch: int, accumulation: int) -> int | None:
    """Optimizer steps of a run as transformers' Trainer counts them, or None if only the data could tell.

    Args:
        max_steps: overrides the rest if positive.
        rows: training examples; batch: examples in a batch over all processes; accumulation: batches in a step.
    """
    if max_steps > 0:
        return max_steps
    if rows is None:
        return None
    return math.ceil(epochs * max(1, math.ceil(math.ceil(rows / batch) / accumulation)))
