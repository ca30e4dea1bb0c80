"""The model that ships with foresight: a small Llama that knows eight generated tasks, some well and some barely.

`model_path` names the folder; it loads like any other (``AutoModelForCausalLM.from_pretrained(model_path())``).
``card.json`` in it, written by the pre-training that made it (recipes/pretrain.yaml), holds its accuracies, seed, steps
and time. Tasks listed there as *retained* it does well. On the *target* tasks it starts weak, and some hundred steps
of fine-tuning raise it. Other tasks were in the mixture without a promise.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

__all__ = ["SHIPPED", "card", "model_path"]

SHIPPED = "shipped"
"""What settings call the shipped model."""


def model_path() -> Path:
    """The folder of the shipped model: config, safetensors, tokenizer and card."""
    return Path(__file__).parent / "model"


def card() -> dict[str, Any]:
    """What the shipped model is and can do: accuracies by task, retained and target tasks, seed, steps, seconds."""
    return json.loads((model_path() / "card.json").read_text(encoding="utf-8"))
