"""Policies on things in memory: what a run would give them, without a run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from torch import nn

from foresight.forecasters import Forecaster, make_forecaster
from foresight.masks.schedule import MaskSchedule
from foresight.policies import catalogue
from foresight.policies.policy import Ground, Past, Policy
from foresight.policies.targets import Target, make_target
from foresight.trajectory.series import Series


@dataclass(frozen=True)
class GroundInMemory(Ground):
    """The recorded run is an object, not a folder, if there is one."""

    recorded: Past | None = None

    def past(self, path: str) -> Past:
        return self.recorded or super().past(path)


def make_policy(
    name: str,
    granularity: str = "components",
    *,
    table: Any,
    forecaster: Forecaster | None = None,
    gate: bool = True,
    history: Sequence[Past] = (),
    target: Target | None = None,
    scorer: str = "attribution",
    damage: np.ndarray | None = None,
    **params: Any,
) -> Policy:
    """A policy that can choose; oracle_trajectory may be a `Series` (with `damage`), mask_schedule a `MaskSchedule`."""
    recorded, schedule = params.get("oracle_trajectory"), params.get("mask_schedule")
    past = Past(recorded, "g", damage) if isinstance(recorded, Series) else None
    made, target = forecaster or make_forecaster("persistence"), target or make_target("circuit")
    ground = GroundInMemory(nn.Module(), table, table, scorer, target, lambda: made, gate, history, past)
    with TemporaryDirectory() as folder:
        if isinstance(schedule, MaskSchedule):
            path = Path(folder) / "schedule.json"
            path.write_text(json.dumps(schedule.to_json(table)))
            params["mask_schedule"] = str(path)
        policy = catalogue.make_policy(name, granularity, params | ({"oracle_trajectory": "g"} if past else {}))
        policy.prepare(ground)
    return policy
