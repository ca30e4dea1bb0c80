"""`SkillLog`: keeps forecasts until their step has come, then judges them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ..common.errors import CheckpointError, ConfigError
from .metrics import overlap, skill
from .series import Forecast


@dataclass(frozen=True)
class Outcome:
    """A forecast, judged by the first snapshot at or after its step.

    Attributes:
        resolved_at: step of that snapshot.
        skill: see `foresight.trajectory.metrics.skill`.
        overlap, persistence_overlap: share of the realised top k that the forecast and persistence had.
    """

    made_at: int
    for_step: int
    resolved_at: int
    skill: float
    overlap: float
    persistence_overlap: float


class SkillLog:
    """Judges forecasts when their step has come.

    Attributes:
        k: size of the circuit for the overlaps.
        pending: forecasts whose step has not come yet.
        outcomes: judgements of the others, in the order in which they were made.
    """

    def __init__(self, k: int):
        self.k = k
        self.pending: list[Forecast] = []
        self.outcomes: list[Outcome] = []

    def record(self, forecast: Forecast) -> None:
        """Keep a forecast. Raises ConfigError if it is not about the future or its shapes differ."""
        if forecast.for_step <= forecast.made_at:
            made, wanted = forecast.made_at, forecast.for_step
            raise ConfigError(f"forecast of step {wanted} was made at step {made}; it must be about a later step")
        shapes = np.shape(forecast.prediction), np.shape(forecast.persistence)
        if shapes[0] != shapes[1] or len(shapes[0]) != 1:
            raise ConfigError(f"prediction and persistence have shapes {shapes}; expected one of [n_components]")
        arrays = (np.array(a, np.float32) for a in (forecast.prediction, forecast.persistence))
        self.pending.append(Forecast(int(forecast.made_at), int(forecast.for_step), *arrays))

    def resolve(self, step: int, actual: np.ndarray) -> list[Outcome]:
        """Judge the pending forecasts for steps <= `step` by `actual` [n_components], the scores at that step."""
        new = [
            Outcome(
                due.made_at,
                due.for_step,
                int(step),
                skill(due.prediction, actual, due.persistence),
                overlap(due.prediction, actual, self.k),
                overlap(due.persistence, actual, self.k),
            )
            for due in self.pending
            if due.for_step <= step
        ]
        self.pending = [forecast for forecast in self.pending if forecast.for_step > step]
        self.outcomes += new
        return new

    def state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """(arrays, JSON) from which `from_state` makes an equal log. A skill of -inf is written as a string."""
        arrays = {}
        for i, forecast in enumerate(self.pending):
            arrays[f"{i}.prediction"], arrays[f"{i}.persistence"] = forecast.prediction, forecast.persistence
        outcomes = [{key: str(v) if v == float("-inf") else v for key, v in asdict(o).items()} for o in self.outcomes]
        pending = [[forecast.made_at, forecast.for_step] for forecast in self.pending]
        return arrays, {"k": self.k, "pending": pending, "outcomes": outcomes}

    @classmethod
    def from_state(cls, arrays: Mapping[str, np.ndarray], data: Mapping[str, Any]) -> SkillLog:
        """Inverse of `state`. Raises CheckpointError for anything else."""
        try:
            log = cls(int(data["k"]))
            for i, (made_at, for_step) in enumerate(data["pending"]):
                log.record(Forecast(int(made_at), int(for_step), arrays[f"{i}.prediction"], arrays[f"{i}.persistence"]))
            for outcome in data["outcomes"]:
                log.outcomes.append(Outcome(**{**outcome, "skill": float(outcome["skill"])}))
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"skill log: the checkpoint is damaged ({error!r})") from error
        if len(arrays) != 2 * len(log.pending) or set(data) != {"k", "pending", "outcomes"}:
            raise CheckpointError(f"skill log: unexpected entries among {sorted(arrays)} and {sorted(data)}")
        return log
