"""A trainer of TRL's that stops at a loss that is not finite; transformers would go on and log zero."""

from __future__ import annotations

import torch
from transformers import Trainer

from ..common.errors import NonFiniteError


class FiniteLoss(Trainer):
    """To be named before the trainer among the bases, whose methods are `super()`'s here. Raises NonFiniteError from
    `compute_loss` in training, before anything learns from the loss, with the message of `diverged`.
    """

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        result = super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        loss = result[0] if return_outputs else result
        if self.model.training and not torch.isfinite(loss):
            raise NonFiniteError(self.diverged(f"the loss is {loss.item()}"))
        return result

    def diverged(self, what: str) -> str:
        """The message: what is not finite, where, and the remedy."""
        return f"{what} at step {self.state.global_step + 1}; lower learning_rate"
