"""How much a run scores, and how often: what its budget for scoring pays for.

The budget is a share of the run's operations (`limits.scoring`), counted from the model's shapes, so that it is the
same on every machine and known before anything runs. What was spent in seconds is measured and logged.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..common.plugins import part
from .settings import LIMITS

if TYPE_CHECKING:
    from ..masks.costs import StepCosts
    from ..scoring.scorer import Scorer
    from .config import ForesightConfig

MOST = 64
"""Examples in a snapshot by default, at most: two halves of so many agree on three quarters of a circuit."""
FEWEST = 8
"""Examples in a snapshot by default, at least: one for each fold."""
SHORTEST = 10
"""Steps between two snapshots by default, at least."""
MOST_SNAPSHOTS = 100
"""Snapshots of a run by default, at most."""
FIRST_SHARE = 0.25
"""Share of the examples that the first snapshot gets, since the first mask rests on it alone."""
SPENT = 0.75
"""Share of the budget that passes may take; hooks and choosing have the rest."""
PATCHED = 0.5
"""Share of the passes that corrections may take."""


@dataclass(frozen=True)
class Cadence:
    """When a run scores and decides.

    Attributes:
        first, each: examples in the first snapshot, and in every later one.
        along: later snapshots come along with training instead, without passes of their own; one that comes before
            enough rows were trained on has `each` examples all the same.
        every, remask_every: steps between snapshots, and between decisions (0: one decision).
        patches: units that are patched exactly at the first snapshot and at later ones, where scores are corrected so;
            None for as many as a correction takes by itself.
        row: operations of scoring an example, as a share of those of training on one.
    """

    first: int
    each: int
    every: int
    remask_every: int
    along: bool = False
    patches: tuple[int, int] | tuple[None, None] = (None, None)
    row: float = 0.0

    def share(self, snapshots: int, trained: int) -> float:
        """Operations of passes for so many snapshots, as a share of those of training on so many examples."""
        later = 0 if self.along else self.each * (snapshots - 1)
        return self.row * (self.first + later) / trained if snapshots and trained else 0.0


def cadence(
    args: ForesightConfig,
    scorer: Scorer | None,
    costs: StepCosts | None,
    trained: int,
    total_steps: int,
    rows: int,
) -> Cadence:
    """The cadence of a run: its settings, and what the budget pays for wherever they leave it open.

    The budget buys examples. The first snapshot gets a quarter of them, within `FEWEST` and `MOST`, and the others as
    many as there can be of at least `FEWEST` examples, not closer than `SHORTEST` steps. A short run takes more than
    its budget, since no snapshot can be smaller. Where scores are corrected, `PATCHED` of it goes into that, half of it
    at the first snapshot.

    Args:
        scorer, costs: None for a run that scores nothing.
        trained: weights that the mask trains. rows: examples of a step, on all processes.
    """
    first, each, every = args.probe_examples, args.probe_examples, args.probe_every
    row, bought, forwards = 0.0, math.inf, math.inf
    if scorer is not None and costs is not None:
        forward, backward = costs.floor
        step = forward + backward + 3 * trained
        passes = scorer.passes(costs.n_components)
        row = (passes[0] * forward + passes[1] * backward) / step
        budget = SPENT * scoring_share(args) * total_steps * rows
        if corrects(args, scorer.name) and args.probe_examples is None:
            forwards = PATCHED * budget * step / forward
            budget *= 1 - PATCHED
        bought = budget / row if row else math.inf
    if first is None:
        first = int(min(MOST, max(FEWEST, FIRST_SHARE * bought))) // FEWEST * FEWEST
    along = scorer is not None and comes_along(args, scorer)
    left = math.inf if along else max(0.0, bought - first)
    if every is None:
        snapshots = left / (each or FEWEST)
        every = max(SHORTEST, math.ceil(total_steps / min(MOST_SNAPSHOTS, max(1.0, snapshots))))
    if each is None:  # where too little has come along, a snapshot takes what the first one took
        each = first if along else int(min(MOST, max(FEWEST, left / max(1, total_steps // every))))
    remask = args.remask_every
    patches = _patches(forwards, total_steps // every) if forwards < math.inf else (None, None)
    return Cadence(first, each, every, 2 * every if remask is None else remask, along, patches, row)


def corrects(args: ForesightConfig, scorer: str) -> bool:
    """Whether scores of that name are corrected by exact patching."""
    return args.calibrate and scorer.startswith("attribution")


def comes_along(args: ForesightConfig, scorer: Scorer) -> bool:
    """Whether scores are collected from training steps. Under torch.compile, hooks that come and go would compile every
    step anew.
    """
    return scorer.along and not args.torch_compile


def _patches(forwards: float, later: int) -> tuple[int, int]:
    """Units to patch at the first of 1 + `later` snapshots and at each of the others, for so many forward passes."""
    pairs, others, most, least = (part(f"scoring.corrected.{name}") for name in ("PAIRS", "OTHERS", "FIRST", "LATER"))

    def bought(passes: float, at_most: int) -> int:
        units = int(passes / pairs) - others
        return min(at_most, units) if units >= FEWEST else 0

    first = bought(forwards / 2, most)
    left = forwards - pairs * (first + others) * (first > 0)
    return first, bought(left / max(1, later), least)


def scoring_share(args: ForesightConfig) -> float:
    """The share of a run's time that scoring and choosing may take."""
    limits = args.limits or {}
    assert not isinstance(limits, str)  # the settings were checked
    return limits.get("scoring", LIMITS["scoring"].default)


def whole_probe(args: ForesightConfig) -> tuple[int, int]:
    """Batch size and number of examples where one set of examples is scored on throughout."""
    batch_size = args.per_device_train_batch_size if args.probe_batch_size is None else args.probe_batch_size
    return batch_size, MOST if args.probe_examples is None else args.probe_examples
