"""Tiny models with many heads, and a behaviour that they can be edited to have."""

from __future__ import annotations

import numpy as np
import torch

from foresight.model.components import component_table
from foresight.studies.evidence.localizers import Localizer
from foresight.studies.evidence.preferences import Question
from support.tiny import tiny, tiny_tokenizer, tokens

HEADS = 8
LAYERS = 3
"""24 single heads: the best of them all has p = 1/25, and nothing else is below .05."""


def many_heads(**changes):
    """A tiny Llama of 24 heads of dimension 4, its table and a tokenizer."""
    model = tiny("llama", num_hidden_layers=LAYERS, num_attention_heads=HEADS, num_key_value_heads=HEADS, **changes)
    return model, component_table(model), tiny_tokenizer()


@torch.no_grad()
def silence(model, but: tuple[str, ...] = ()) -> None:
    """Cut all heads but these off from the residual stream: nothing can be written there through the others."""
    for component in component_table(model):
        if component.kind == "head" and component.name not in but:
            (tap,) = component.taps
            model.get_submodule(tap.module).weight[:, tap.start : tap.stop] = 0


def questions(n: int, seed: int = 0) -> tuple[Question, ...]:
    """Random prompts of five words after which " w7" is right and " w9" wrong."""
    rows = tokens(n, 5, seed).clamp(max=62).tolist()
    prompts = dict.fromkeys(" ".join(f"w{i}" for i in row) for row in rows)
    return tuple(Question(prompt, (" w7",), (" w9",)) for prompt in prompts)


class Backwards(Localizer):
    """The last head first."""

    def scores(self, case):
        return np.arange(24.0)
