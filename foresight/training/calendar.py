"""The calendar of a run: the optimizer steps at which it takes snapshots, rotates masks and chooses masks."""

from __future__ import annotations

import math
from functools import cached_property
from typing import TYPE_CHECKING

from ..common.errors import ConfigError
from ..masks.budget import budget_over_time
from ..policies.policy import Policy
from .scoring_budget import Cadence
from .scoring_budget import cadence as cadence_of

if TYPE_CHECKING:
    from .config import ForesightConfig


class Calendar:
    """When things happen, in optimizer steps done; step 0 is before training.

    Args:
        cadence: how often it scores and decides; by default what the settings say.

    Attributes:
        total_steps: length of the run.
        first_decision: step at which the policy first chooses the mask; those before it are the watch of a forecast.
        rotates: whether masks take turns during the watch.
        resizes: steps after which the bank has another size (a budget schedule's); the mask is then chosen anew.
    """

    def __init__(self, args: ForesightConfig, policy: Policy, total_steps: int, cadence: Cadence | None = None):
        self.args, self.policy, self.total_steps = args, policy, total_steps
        self.cadence = cadence or cadence_of(args, None, None, 0, total_steps, 1)
        self.first_decision = (policy.watch_steps or max(1, total_steps // 5)) if policy.forecasts else 0
        self.rotates = policy.watch == "rotate"
        budgets = budget_over_time(args.budget_schedule)
        self.resizes: frozenset[int] = frozenset() if budgets is None else budgets.boundaries(total_steps)

    def decides(self, step: int) -> bool:
        """Whether the policy chooses a mask after `step` steps; never at the end, when nothing is left to train."""
        since, every = step - self.first_decision, self.cadence.remask_every
        due = every > 0 and since % every == 0 and step <= self.policy.latest * self.total_steps
        again = since > 0 and (due or step in self.resizes)
        return step < self.total_steps and (since == 0 or again or step in self.policy.own_steps)

    def turns(self, step: int) -> bool:
        """Whether the next of the rotating masks has its turn."""
        return self.rotates and step < min(self.first_decision, self.total_steps) and step % self.cadence.every == 0

    def restarts(self, step: int) -> bool:
        """Whether the Adam moments of the whole mask start afresh after `step` steps; never at the ends of the run."""
        return self.args.restart_every > 0 and 0 < step < self.total_steps and step % self.args.restart_every == 0

    def snapshot(self, step: int) -> bool:
        """Whether the components are scored after `step` steps: at the cadence of probes, at step 0 for a policy that
        chooses by scores at all, and at every decision of one that looks at new ones.
        """
        policy = self.policy
        # By default the first decision has a snapshot of its own in the row.
        due = (step - (self.first_decision if self.args.probe_every is None else 0)) % self.cadence.every == 0
        if (self.args.record or (policy.needs_scores and policy.forecasts)) and (due or step == 0):
            return True
        return policy.needs_scores and (step == 0 or (policy.remasks and self.decides(step)))

    @cached_property
    def last_snapshot(self) -> int:
        """The last step after which the components are scored; -1 without any."""
        return next((step for step in reversed(self.steps) if self.snapshot(step)), -1)

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
