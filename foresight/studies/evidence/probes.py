"""What single heads know about right and wrong: last-token outputs, one logistic probe per head, directions of a shift.

Li et al., "Inference-Time Intervention" (arXiv 2306.03341), section 3: run the text of question and answer, read the
output of every head at the last token, and fit a probe that tells right answers from wrong ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from torch import nn
from transformers import PreTrainedTokenizerBase

from ...model.components import ComponentTable
from ...scoring.scorer import scoring_mode
from ...scoring.taps import Site, sites, tapped
from .packed import batches, collate, logits, pack
from .preferences import Question


@dataclass(frozen=True)
class Outputs:
    """Outputs of heads on the texts prompt + answer. values: float32 [n, heads, head_dim]; right: bool [n]."""

    values: np.ndarray
    right: np.ndarray


def read_outputs(
    model: nn.Module, table: ComponentTable, tokenizer: PreTrainedTokenizerBase, questions: Sequence[Question]
) -> Outputs:
    """The outputs of all heads, in model order, at the last token of every answer of the questions."""
    texts = [(q.prompt, answer, right) for q in questions for answer, right in q.answers]
    heads = [component for component in table if component.kind == "head"]
    modules = {head.taps[0].module for head in heads}
    places: list[Site] = [site for site in sites(table) if site.side == "input" and site.module in modules]
    found: list[torch.Tensor] = [torch.empty(0)] * len(texts)
    with torch.inference_mode(), scoring_mode(model):
        for packs in batches(pack(tokenizer, [(prompt, answer) for prompt, answer, _ in texts])):
            batch = {name: tensor.to(model.device) for name, tensor in collate(packs).items()}
            row, position, picks = batch["ends"].T
            seen: dict[int, torch.Tensor] = {}

            def keep(place: int, o: torch.Tensor, seen=seen, row=row, position=position) -> None:
                seen[place] = o[row.to(o.device), position.to(o.device)].float().cpu()

            with tapped(model, places, keep):
                logits(model, batch, position[:1])
            outputs = torch.cat([seen[i] for i in range(len(places))], 1).reshape(len(picks), len(heads), -1)
            for i, output in zip(picks.tolist(), outputs, strict=True):
                found[i] = output
    return Outputs(torch.stack(found).numpy(), np.array([right for _, _, right in texts]))


def probe_accuracy(train: Outputs, held_out: Outputs) -> np.ndarray:
    """Accuracy on held-out texts of one probe per head, float64 [heads]."""
    heads = zip(train.values.swapaxes(0, 1), held_out.values.swapaxes(0, 1), strict=True)
    return np.array([_probe(fitted, train.right).score(judged, held_out.right) for fitted, judged in heads])


def _probe(values: np.ndarray, right: np.ndarray) -> LogisticRegression:
    """Logistic regression (scikit-learn, L2 with C = 1)."""
    return LogisticRegression(max_iter=1000).fit(values, right)


def shifts(kind: str, outputs: Outputs, heads: Sequence[int]) -> dict[int, np.ndarray]:
    """Head -> sigma u, [head_dim]: a unit direction towards right answers times the spread of the outputs along it.

    Args:
        kind: ``mass_mean``, the mean of right answers minus that of wrong ones; ``probe``, the normal of a probe.
        heads: positions in model order.
    """
    found = {}
    for head in heads:
        o = outputs.values[:, head]
        if kind == "probe":
            normal = _probe(o, outputs.right).coef_[0]
        else:
            normal = o[outputs.right].mean(0) - o[~outputs.right].mean(0)
        length = np.linalg.norm(normal)
        unit = normal / length if length > 0 else normal  # the outputs of a silent head are zero, so it is not shifted
        found[head] = (unit * (o @ unit).std()).astype(np.float32)
    return found
