"""The model that ships with foresight: a small Llama that knows eight generated tasks, some well and some barely.

`model_path` is its folder, which loads like any other (``AutoModelForCausalLM.from_pretrained(model_path())``). The
folder's ``card.json``, written by the pre-training (recipes/pretrain.yaml), holds accuracies, seed, steps and time. The
model does well on the tasks that the card lists as *retained*. It starts weak on the *target* tasks and improves within
some hundred steps of fine-tuning. Other tasks were part of the mixture, with no claim about them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

__all__ = ["SHIPPED", "card", "model_path"]

SHIPPED = "shipped"
"""The shipped model's name in settings."""


def model_path() -> Path:
    """The folder of the shipped model, with its config, weights, tokenizer and card."""
    return Path(__file__).parent / "model"


def card() -> dict[str, Any]:
    """The shipped model's card: accuracies by task, retained and target tasks, seed, steps, seconds."""
    return json.loads((model_path() / "card.json").read_text(encoding="utf-8"))
