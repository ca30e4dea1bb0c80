"""Policies that choose once, by what a short run before training has seen of the weights' way."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..common.errors import CheckpointError, ConfigError
from ..masks.masks import Mask
from .base import Policy, View


class Scouted(Policy):
    """The circuit by the scores that a scouting run gives before training, for good; base of the three below.

    Args:
        scouted: magnitudes [n_components]. A `ForesightTrainer` scouts and sets them; a resumed run has its own back.
    """

    ranks = True

    def __init__(self, scouted: np.ndarray | None = None):
        self.scouted = scouted

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
    """The circuit of the model after scouting."""

    name = "probing"


class Predicted(Scouted):
    """The circuit that the Taylor method predicts for the end of the run, from the direction that scouting took."""

    name = "predicted"


class Displaced(Scouted):
    """The control of `Predicted`: the circuit of a model whose weights went on in the direction that scouting took."""

    name = "displaced"
