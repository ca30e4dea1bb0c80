"""What an adapter needs a trainer to do at the right moment."""

from __future__ import annotations

from transformers import TrainerCallback

from ...common.errors import ConfigError


class CheckCount(TrainerCallback):
    """Raises ConfigError unless exactly the adapter's parameters will be trained."""

    def __init__(self, method: str, parameters: int):
        self.method, self.parameters = method, parameters

    def on_train_begin(self, args, state, control, model=None, **kwargs):
        found = sum(getattr(p, "ds_numel", p.numel()) for p in model.parameters() if p.requires_grad)
        if found != self.parameters:
            raise ConfigError(
                f"adapter {self.method!r} was made for {self.parameters} trainable parameters, but the model has "
                f"{found}; give SFTTrainer the config made for this very model, and no modules_to_save or new tokens"
            )


class Allocate(TrainerCallback):
    """Shows AdaLoRA the gradients of every step, so that it can prune; no trainer does that of itself.

    Its scale is divided by the initial rank, which PEFT keeps as a parameter and, when it moves it to another dtype or
    device, makes trainable by accident; it is frozen again here.
    """

    def on_train_begin(self, args, state, control, model=None, **kwargs):
        for name, parameter in model.named_parameters():
            if ".ranknum." in name:
                parameter.requires_grad = False

    def on_optimizer_step(self, args, state, control, model=None, **kwargs):
        model.base_model.update_and_allocate(state.global_step)
