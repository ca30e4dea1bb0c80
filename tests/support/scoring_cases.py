"""Small probes for the tests of scores: random tokens, so that any tiny model will do."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn import functional as F

from foresight.scoring.probes import Batch, ContrastProbe, TextProbe
from support.tiny import tokens


def pair_batch(lengths: Sequence[int], seed: int = 0, changed: Sequence[int] = (2, 4)) -> Batch:
    """Right-padded contrast pairs of the given lengths that differ at the positions `changed`."""
    length = max(lengths)
    clean, answers = tokens(len(lengths), length, seed), tokens(len(lengths), 2, seed + 1)
    mask = (torch.arange(length) < torch.tensor(lengths)[:, None]).long()
    corrupted = clean.clone()
    corrupted[:, list(changed)] = (clean[:, list(changed)] + 20) % 60 + 3
    targets = torch.full_like(clean, -100)
    targets[torch.arange(len(lengths)), mask.sum(1) - 1] = answers[:, 0]
    return Batch(clean * mask, mask, targets, corrupted * mask, answers[:, 1] % 60 + 3)


def pair_probe(lengths: Sequence[int] = (9, 9, 9, 9), batch_size: int | None = None, **settings) -> ContrastProbe:
    batch = pair_batch(lengths, **settings)
    size = batch_size or len(batch)
    return ContrastProbe(batch.rows(slice(i, i + size)) for i in range(0, len(batch), size))


def text_probe(lengths: Sequence[int] = (9, 7, 5, 8), batch_size: int = 2, seed: int = 0) -> TextProbe:
    """Text with labels on everything but the first three tokens."""
    rows = [ids[:n].tolist() for ids, n in zip(tokens(len(lengths), max(lengths), seed), lengths, strict=True)]
    return TextProbe.from_dataset([{"input_ids": r, "labels": [-100] * 3 + r[3:]} for r in rows], batch_size)


def logits_of(model, batch: Batch, corrupted: bool = False) -> torch.Tensor:
    """All logits [B, K, vocabulary] at the K positions where any example has a label, from the model's own forward."""
    at = (batch.targets >= 0).any(0).nonzero().flatten()
    ids = batch.corrupted_ids if corrupted else batch.input_ids
    return model(input_ids=ids, attention_mask=batch.attention_mask, logits_to_keep=at, use_cache=False).logits


def goodness(metric: str, logits: torch.Tensor, batch: Batch, clean: torch.Tensor | None = None) -> torch.Tensor:
    """What `foresight.scoring.goodness` says of a metric, from all logits at once: float32 [B]."""
    logits = logits.float()
    targets = batch.targets[:, (batch.targets >= 0).any(0)]
    labelled = targets >= 0
    if metric == "loss":
        values = -F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none").view_as(targets)
    elif metric == "kl":
        before = clean.float().log_softmax(-1)
        values = -(before.exp() * (before - logits.log_softmax(-1))).sum(-1) * labelled
    else:
        wrong = batch.wrong[:, None].expand(-1, logits.shape[1])
        answer, other = (logits.gather(-1, t[..., None])[..., 0] for t in (targets.clamp(min=0), wrong))
        values = (answer - other) * labelled
    return values.sum(1) / labelled.sum(1)


def batch_loss(logits: torch.Tensor, batch: Batch) -> torch.Tensor:
    labelled = (batch.targets >= 0).sum(1)
    return -(goodness("loss", logits, batch) * labelled).sum() / labelled.sum()
