"""The weights of a recorded run, as forecasts from weights read them."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from ...bank.base_weights import digest, fingerprint
from ...bank.delta import WEIGHTS
from ...common.errors import CheckpointError, TrajectoryError
from ...model.components import ComponentTable
from ...model.placement import Placement
from ...scoring.gradient_taps import stored_weight_of, vectors_first
from .recording import Recording


class RecordedWeights:
    """A `forecasters.single_weights.extrapolate.WeightPath` over a recording that was made with `keep_weights`.

    Args:
        base_model: the model that the run started from. Each `change` reads it, so it must not be shifted then.
        table: the component table of the recording.

    Attributes:
        steps: steps of the snapshots that have weights.

    Raises:
        TrajectoryError: the recording has no weights, or belongs to another model or component table.
    """

    def __init__(self, recording: Recording, base_model: nn.Module, table: ComponentTable):
        here = Placement()
        found = digest(fingerprint(base_model, here), here)
        for what, expected, given in (("weights", recording.head.model, found),
                                      ("components", recording.head.table, table.hash)):  # fmt: skip
            if expected != given:
                raise TrajectoryError(
                    f"{recording.path} belongs to a model with {what} {expected}, this model has {given}; load the "
                    "model that the run started from, in its dtype, with its mlp_block"
                )
        self.recording, self.base_model, self.table = recording, base_model, table
        self.steps = [step for step in recording.steps if self._file(step).exists()]
        if not self.steps:
            raise TrajectoryError(f"{recording.path} was recorded without weights; track the run with keep_weights")

    def change(self, step: int) -> dict[str, Tensor]:
        """Weights at `step` minus those of the base model: module -> float32 [output features, input features].

        Raises:
            CheckpointError: the step's weights are missing, damaged, or do not fit the model.
        """
        file = self._file(step)
        try:
            stored = load_file(file)
        except (OSError, SafetensorError) as error:
            raise CheckpointError(f"{file} is damaged or missing ({error})") from error
        weight_of, changes = stored_weight_of(self.base_model), {}
        for target in self.table.targets:
            index, values = (stored.get(f"{target.module}.{part}") for part in ("index", "values"))
            if index is None or values is None:
                continue
            if not len(index) or int(index.min()) < 0 or int(index.max()) >= target.n or (
                tuple(values.shape) != (len(index), self.table.d_model)
            ):  # fmt: skip
                raise CheckpointError(f"{file}: {target.module} has {len(index)} vectors that do not fit this model")
            before = vectors_first(weight_of(target.module), target)
            change = torch.zeros(before.shape)
            change[index] = values - before[index.to(before.device)].cpu()
            changes[target.module] = vectors_first(change, target)  # transposes back
        return changes

    def _file(self, step: int) -> Path:
        return self.recording.weights(step) / WEIGHTS
