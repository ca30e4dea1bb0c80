"""`ForesightConfig`: TRL's SFTConfig with the settings of a mask."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Unpack

import torch
from trl import SFTConfig

from ..common.errors import ConfigError
from ..policies.catalogue import policy_class
from ..policies.targets import Target, make_target
from .checks import check_settings, check_trainer
from .settings import MaskSettings

if TYPE_CHECKING:
    from .typed_settings import TypedSettings


MAPPINGS = ["policy_params", "target_params", "forecaster_params", "limits", "candidates"]
"""Settings that may be given as JSON text, which TRL wants listed."""


@dataclass
class ForesightConfig(MaskSettings, SFTConfig):
    """Settings of a masked fine-tuning run; every SFTConfig field is valid as well.

    Weight decay acts on the bank, so it pulls trained vectors towards the weights they had when training began (the
    bank holds differences), never towards zero and never outside the mask.

    Raises:
        ConfigError: a value outside its range, or settings that do not go together; the message names field, value
            and what was expected.
    """

    _VALID_DICT_FIELDS = [*SFTConfig._VALID_DICT_FIELDS, *MAPPINGS]

    if TYPE_CHECKING:  # else any argument would pass where TRL's types are not followed

        def __init__(self, **settings: Unpack[TypedSettings]) -> None: ...

    def __post_init__(self):
        complete(self, super().__post_init__)


def complete(settings: Any, of_trainer: Callable[[], None]) -> None:
    """Check settings of a trainer and a mask; `of_trainer` is the trainer's own part. Raises as ForesightConfig."""
    if not torch.accelerator.is_available():
        settings.use_cpu = True
        settings.bf16 = bool(settings.bf16)  # TRL's default asks for a device that is not there
    of_trainer()
    check_settings(settings)
    _check_target(settings)
    check_trainer(vars(settings))


def target_of(settings: MaskSettings) -> Target:
    """The target by the run's settings. Raises ConfigError for an unknown one, or a parameter out of range."""
    assert not isinstance(settings.target_params, str)  # `check_settings` has parsed JSON text
    return make_target(settings.target, **(settings.target_params or {}))


def _check_target(settings: MaskSettings) -> None:
    """Raise ConfigError for a target that does not go with the other settings."""
    target = target_of(settings)
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
