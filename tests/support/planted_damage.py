"""A model in which a block of neurons helps the target without harm, and another helps more but harms by construction.

One layer without attention, whose down projection starts at zero. Block A reads embedding feature 0, which the target's
token alone has; block B reads feature 1, which it shares with the retained token, and more strongly. The target wants
the token GOOD after TARGET, the retained data want BAD after RETAINED: what B learns for one it unlearns for the other.
"""

from __future__ import annotations

import torch
from datasets import Dataset

from foresight.scoring.probes import TextProbe
from support.tiny import tiny

TARGET, RETAINED, GOOD, BAD = 10, 11, 20, 21
A, B = "L0.mlp.0", "L0.mlp.1"
IGNORED = -100


@torch.no_grad()
def harmful_model():
    model = tiny(num_hidden_layers=1, intermediate_size=4, tie_word_embeddings=False)
    for weight in model.parameters():
        if weight.ndim == 2:
            weight.zero_()
    embed, layer = model.model.embed_tokens.weight, model.model.layers[0]
    embed[TARGET, 0], embed[TARGET, 1], embed[RETAINED, 1], embed[:, 2] = 1.0, 2.0, 2.0, 0.5
    for projection in (layer.mlp.gate_proj, layer.mlp.up_proj):
        projection.weight[:2, 0] = 1.0
        projection.weight[2:, 1] = 1.0
    model.lm_head.weight[GOOD, 5], model.lm_head.weight[BAD, 6] = 4.0, 4.0
    return model


def rows(first: int, answer: int, n: int = 8) -> Dataset:
    """Tokenized rows of two tokens, the second one predicted."""
    return Dataset.from_dict({"input_ids": [[first, answer]] * n, "labels": [[IGNORED, answer]] * n})


def probes() -> tuple[TextProbe, TextProbe]:
    """Of the target and of the retained data."""
    return tuple(TextProbe.from_dataset(rows(*pair), 4) for pair in ((TARGET, GOOD), (RETAINED, BAD)))
