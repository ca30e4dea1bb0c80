"""By what a run ranks components, and how its budget is split between kinds: the settings, checked; past runs, read."""

from __future__ import annotations

import inspect
import math
from typing import TYPE_CHECKING

import numpy as np

from ..common.errors import ConfigError, did_you_mean, mapping
from ..policies import Past, policy_class
from ..policies.targets import Target, make_target
from ..policies.targets.circuit import Circuit
from ..scoring.virtual_moves import DAMAGE
from ..trajectory.trajectory import Trajectory

if TYPE_CHECKING:
    from .config import ForesightConfig

HEAD_SHARES = ("prior", "trials")


def target_of(args: ForesightConfig) -> Target:
    """The target by the run's settings. Raises ConfigError for one that is not known, or a parameter out of range."""
    params = mapping("target_params", args.target_params, '{"preconditioner": "none"}') or {}
    if args.target == "damage":
        params = {"damage_weight": args.damage_weight, **params}
    return make_target(args.target, **params)


def check_target(args: ForesightConfig) -> None:
    """Raise ConfigError for a target that does not go with the other settings."""
    target = target_of(args)
    if isinstance(target, Circuit):
        return
    if args.granularity == "weights":
        raise ConfigError(f"target {args.target!r} ranks components, not single weights; leave it at 'circuit'")
    policy = policy_class(args.policy)
    needs = inspect.signature(policy).parameters
    if policy.measures or "scouted" in needs or (policy.needs_scores and "target" not in needs):
        raise ConfigError(
            f"policy {args.policy!r} has a measure of its own and knows no target {args.target!r}; leave it at "
            "'circuit', or use policy 'foresight', 'reactive', 'static' or 'oracle'"
        )
    if args.scorer != "auto" and (target.scorer or target.measures):
        raise ConfigError(f"target {args.target!r} has its own scores, not scorer {args.scorer!r}; leave it at 'auto'")
    if target.needs_training and policy.needs_scores and not (policy.forecasts and args.watch != "hold"):
        raise ConfigError(
            f"target {args.target!r} knows nothing before training, by which policy {args.policy!r} with watch "
            f"{args.watch!r} would choose; use policy 'foresight' with watch 'rotate' or 'full-keep'"
        )


def checked_head_share(args: ForesightConfig) -> float | str | None:
    """The setting, a number where it is one. Raises ConfigError for a value or policy that makes no sense."""
    share = args.head_share
    if share is None:
        return None
    if args.granularity == "weights":
        raise ConfigError(f"head_share is {share!r}, but masks of single weights have no kinds; remove it")
    if not policy_class(args.policy).ranks:
        raise ConfigError(f"head_share is {share!r}, but policy {args.policy!r} ranks no components; remove it")
    if share == "calibrated":
        raise ConfigError(
            "head_share 'calibrated' is what happens without it: with calibrate, heads and MLP blocks are ranked in "
            "one list by scores calibrated with exact patching; remove it"
        )
    if share in HEAD_SHARES:
        return share
    try:
        number = float(share)
    except (TypeError, ValueError):
        number = math.nan
    if not 0 <= number <= 1:
        raise ConfigError(
            f"head_share is {share!r}{did_you_mean(str(share), HEAD_SHARES)}; expected a number in [0, 1], or "
            f"{' or '.join(map(repr, HEAD_SHARES))}"
        )
    return number


def past_run(path: str, scorer: str, measures: tuple[str, ...], target: Target) -> Past:
    """A recorded run as this one ranks components. Runs of one model on one probe are of one task.

    Args:
        scorer: name of the scores; measures: virtual moves that have to be recorded besides.

    Raises:
        TrajectoryError: not a trajectory.
        ConfigError: it lacks these scores, or they were taken with other parameters.
    """
    trajectory = Trajectory.read(path)
    series = trajectory.series(scorer)
    taken, wanted = trajectory.info.get("scorer_params", {}), dict(target.scorer_params)
    if taken != wanted:
        raise ConfigError(
            f"{path} was recorded with parameters {taken} of scorer {scorer!r}, target {target.name!r} has {wanted}; "
            "record it with this target, or change target_params"
        )
    damage: np.ndarray | None = trajectory.values(DAMAGE) if DAMAGE in measures else None
    return Past(series, f"{trajectory.model_hash} {trajectory.data_hash}", damage)
