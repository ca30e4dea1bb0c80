"""Policies that choose once, by where a scout, a short run before training, has seen the weights go."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ..common.errors import CheckpointError, ConfigError
from ..masks.masks import Mask
from .policy import Policy, View


@dataclass(frozen=True)
class Scouting:
    """What a scout has taken.

    Attributes:
        rows, steps: training examples, and optimizer steps over them.
        learning_rate: constant over those steps.
        training_seconds, scoring_seconds: wall time of the steps, and of the scores made from them.
        bytes: tensors held besides model and activations: all components' trained values, gradients and moments, or
            later the shift and copies of the weights.
    """

    rows: int
    steps: int
    learning_rate: float
    training_seconds: float
    scoring_seconds: float
    bytes: int

    def logged(self) -> dict[str, float]:
        """The numbers as a run logs them."""
        return {f"foresight/scouting_{name}": value for name, value in asdict(self).items()}


class Scouted(Policy):
    """The circuit by the scores that a scout gives before training, for good; base of the three below.

    Attributes:
        scouted: magnitudes [n_components]. A `ForesightTrainer` sets them; a resumed run has its own back.
    """

    scouts = "bank"
    ranks = True

    def __init__(self, scout_share: float = 0.01, scout_learning_rate: float | None = None):
        self.share, self.learning_rate = scout_share, scout_learning_rate
        self.scouted: np.ndarray | None = None

    def mask(self, view: View) -> Mask:
        if self.scouted is None:
            raise ConfigError(
                f"policy {self.name!r} has no scores yet; a ForesightTrainer scouts when it begins to train"
            )
        return view.select(self.scouted)

    def state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        return {} if self.scouted is None else {"scouted": self.scouted}, {}

    def load_state(self, arrays: Mapping[str, np.ndarray], data: Mapping[str, Any]) -> None:
        if set(arrays) != {"scouted"} or data or arrays["scouted"].ndim != 1:
            raise CheckpointError(
                f"policy {self.name!r} has one array of scores; the checkpoint has {[*arrays, *data]}"
            )
        self.scouted = arrays["scouted"]


class Probing(Scouted):
    """The circuit of the model after the scout."""

    name = "probing"


class Predicted(Scouted):
    """The circuit that the Taylor method predicts for the end of the run, from the direction that the scout took."""

    name = "predicted"


class Displaced(Scouted):
    """The control of `Predicted`: the circuit of a model whose weights went on in the direction that the scout took."""

    name = "displaced"
