"""A trainer of TRL's that stops at a loss that is not finite; transformers would go on and log zero."""

from __future__ import annotations

import torch

from ..errors import NonFiniteError


class FiniteLoss:
    """To be named before the trainer among the bases. Raises NonFiniteError from `compute_loss`."""

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        result = super().compute_loss(model, inputs, return_outputs, num_items_in_batch)  # type: ignore[misc]
        loss = result[0] if return_outputs else result
        if not torch.isfinite(loss):
            step = self.state.global_step + 1  # type: ignore[attr-defined]
            raise NonFiniteError(f"the loss is {loss.item()} at step {step}; lower learning_rate")
        return result
