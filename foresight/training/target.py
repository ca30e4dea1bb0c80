"""What a run ranks components by: the target that its settings name, and the rules that only the target can tell."""

from __future__ import annotations

from ..common.errors import ConfigError
from ..policies.catalogue import policy_class
from ..policies.targets import Target, make_target
from ..policies.targets.circuit import Circuit
from .settings import MaskSettings


def target_of(settings: MaskSettings) -> Target:
    """The target by the run's settings. Raises ConfigError for an unknown one, or a parameter out of range."""
    assert not isinstance(settings.target_params, str)  # `check_settings` has parsed JSON text
    return make_target(settings.target, **(settings.target_params or {}))


def check_target(settings: MaskSettings) -> None:
    """Raise ConfigError for a target that does not go with the other settings."""
    target = target_of(settings)
    if isinstance(target, Circuit):
        return
    if settings.scorer != "auto" and (target.scorer or target.measures):
        raise ConfigError(
            f"target {settings.target!r} has its own scores, not scorer {settings.scorer!r}; leave it at 'auto'"
        )
    policy = policy_class(settings.policy, settings.granularity)
    watch = (settings.policy_params or {}).get("watch", "hold")  # type: ignore[union-attr]
    if target.needs_training and policy.needs_scores and not (policy.forecasts and watch != "hold"):
        raise ConfigError(
            f"target {settings.target!r} knows nothing before training, by which policy {settings.policy!r} with watch "
            f"{watch!r} would choose; use policy 'foresight' with policy_params.watch 'rotate' or 'full-keep'"
        )
