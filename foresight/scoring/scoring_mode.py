"""The mode in which a model is scored."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def scoring_mode(model: nn.Module) -> Iterator[None]:
    """Put the model in eval mode, and restore each module's flag afterwards.

    A checkpointed layer recomputes only while its own flag is set. The flag stays set where checkpointing is
    non-reentrant, so that scoring needs no more memory than training. Reentrant checkpointing hides activations from
    autograd and is therefore switched off.
    """
    before = {module: module.training for module in model.modules()}
    model.eval()
    for module in before:
        if getattr(module, "gradient_checkpointing", False):
            settings = getattr(getattr(module, "_gradient_checkpointing_func", None), "keywords", {})
            module.training = settings.get("use_reentrant") is False
    try:
        yield
    finally:
        for module, training in before.items():
            module.training = training
