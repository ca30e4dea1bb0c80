"""What a run over single weights has that is other than that of a run over components or vectors."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast

from torch import nn

from ..bank import Bank, InPlaceBank, WeightBank
from ..common.errors import ConfigError
from ..masks.masks import MaskSchedule
from ..masks.weight_schedule import WeightSchedule
from ..model.components import ComponentTable
from ..model.numbering import Numbering
from ..model.placement import Placement
from ..model.weight_table import WeightTable, weight_table
from ..policies import Policy, policy_class
from ..policies.single_weights.weights import WeightPolicy, make_weight_policy, weight_policy_class
from .delta import movement

if TYPE_CHECKING:
    from .config import ForesightConfig


def policy_type(args: ForesightConfig) -> type[Policy]:
    """The class of the run's policy. Raises ConfigError for one that does not choose masks of this granularity."""
    return weight_policy_class(args.policy) if args.granularity == "weights" else policy_class(args.policy)


def numbers_of(model: nn.Module, table: ComponentTable, args: ForesightConfig) -> Numbering:
    """What the run's bank can hold: the vectors of the table, or the model's weights."""
    return weight_table(model) if args.granularity == "weights" else table


def bank_of(model: nn.Module, numbers: Numbering, n_vectors: int, placement: Placement, in_place: bool) -> Bank:
    """The bank for them, attached to the model.

    A `WeightBank` passes for a `Bank` here: only what policies over weights do not need asks a bank for components.
    """
    if isinstance(numbers, WeightTable):
        return cast(Bank, WeightBank(model, numbers, n_vectors, placement))
    assert isinstance(numbers, ComponentTable)
    return (InPlaceBank if in_place else Bank)(model, numbers, n_vectors, placement)


def schedule_of(args: ForesightConfig) -> MaskSchedule:
    """An empty schedule; a `WeightSchedule`, which passes for one here, where masks are of single weights."""
    return cast(MaskSchedule, WeightSchedule()) if args.granularity == "weights" else MaskSchedule()


def weight_policy(args: ForesightConfig, model: nn.Module, numbers: Numbering, scorer: str) -> WeightPolicy:
    """The run's policy over single weights.

    Raises:
        ConfigError: something that it needs is missing or cannot be read.
        CheckpointError: `movement_from` is of another model.
    """
    path = args.mask_schedule
    if args.policy == "foresight" and (args.world_size > 1 or args.deepspeed):
        raise ConfigError(
            "policy 'foresight' over single weights runs in one process without DeepSpeed; start it without a "
            "launcher, and give the resulting schedule.json to policy 'replay' for more"
        )
    return make_weight_policy(
        args.policy,
        redraw=args.redraw,
        scorer=scorer,
        moved=movement(args.movement_from, model) if args.movement_from else None,
        schedule=WeightSchedule.read(path, numbers) if path else None,
        folder=Path(path).parent if path else None,
        shapes={t.module: tuple(model.get_submodule(t.module).weight.shape) for t in numbers.targets},
        rule=args.movement_rule,
        memory=args.movement_memory,
    )
